//! The two forms in which lists are shipped: as a whole snapshot while they are small, and as a base with an overlay.

use std::sync::Arc;

use bytes::Bytes;
use edgefold::{Edits, Fold, LogTime};
use edgefold_snapshot::{
    EncodeError, Fingerprint, Generation, Layers, ListAction, ListName, MAX_SNAPSHOT_BYTES, NewList, NewSnapshot, Role,
    Settings, Snapshot, make_base, table_bytes,
};

use super::cut::{self, Cut};
use super::pair::Pair;

/// How large a base is. The default is what is shipped; tests have smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct BaseLimits {
    /// From how many bytes of tables on a snapshot becomes a base. A smaller one costs little more than an overlay.
    pub least_bytes: usize,
    /// The most bytes of a base with an overlay.
    pub most_bytes: usize,
}

impl BaseLimits {
    /// Over gRPC each byte goes to each proxy: a small list is shipped as a base too, so that a change takes less than a kilobyte.
    pub const FOR_A_FLEET: Self = Self { least_bytes: 4 << 10, most_bytes: MAX_SNAPSHOT_BYTES };
}

impl Default for BaseLimits {
    fn default() -> Self {
        Self { least_bytes: 64 << 10, most_bytes: MAX_SNAPSHOT_BYTES }
    }
}

/// What is shipped to the resource of the base, and how.
#[derive(Debug)]
pub(super) struct Bases {
    /// What is there beside a whole snapshot, because Envoy does not start without the resource.
    empty: Arc<Snapshot<Bytes>>,
    /// A base of another process, to go on with.
    found: Option<Snapshot<Bytes>>,
    limits: BaseLimits,
    /// `None` as long as a whole snapshot is smaller.
    pair: Option<Pair>,
    /// Whether it was a pair when something was last cut, and is small now.
    is_small_again: bool,
}

/// The work for a new base, which takes as long as the lists are large. It is done beside the thread that ships.
#[derive(Debug)]
pub struct Rebase {
    base: Arc<Snapshot<Bytes>>,
    overlay: Bytes,
}

impl Rebase {
    /// The base that the next one takes the place of.
    pub fn base(&self) -> &Snapshot<Bytes> {
        &self.base
    }

    /// Encodes the base that has what the last base and the overlay have.
    ///
    /// # Errors
    /// [`EncodeError`] if it would be too long.
    pub fn run(&self) -> Result<Vec<u8>, EncodeError> {
        // This process has encoded both, one for the other.
        let overlay = opened(self.overlay.clone()).ok_or(EncodeError::Header)?;
        Layers::over(Arc::new(overlay), &self.base).ok_or(EncodeError::Header)?.to_base()
    }
}

/// Opens what this process has encoded.
fn opened(snapshot: Bytes) -> Option<Snapshot<Bytes>> {
    let known = Fingerprint::of(&snapshot);
    Snapshot::open_known(snapshot, known).ok()
}

impl Bases {
    /// Those of the filter with this name.
    pub(super) fn new(name: &str, limits: BaseLimits, found: Option<Snapshot<Bytes>>) -> Result<Self, EncodeError> {
        let (settings, action) = (Settings::default(), ListAction::default());
        let new = NewSnapshot { name, generation: Generation::default(), as_of: 0, settings: &settings, cut_at: 0 };
        let empty = new.encode_base([NewList { name: ListName::DEFAULT, action: &action, ranges: [] }])?;
        let empty = Arc::new(opened(empty.into()).ok_or(EncodeError::Header)?);
        let mut this = Self { empty, found: None, limits, pair: None, is_small_again: false };
        if let Some(found) = found {
            this.adopt(found);
        }
        Ok(this)
    }

    /// As [`Publisher::adopt`](super::Publisher::adopt).
    pub(super) fn adopt(&mut self, base: Snapshot<Bytes>) {
        let is_ours = base.header().name == self.empty.header().name && base.header().role == Role::Base;
        let least = self.limits.least_bytes / 2;
        self.found = Some(base).filter(|base| is_ours && table_bytes(base.bytes()) >= least);
        if let (None, Some(pair)) = (&self.found, &mut self.pair) {
            pair.end_rebase(None);
        }
    }

    /// What is to be shipped for the lists of `fold` at `now`. `edits` are those since the last time.
    pub(super) fn cut(
        &mut self,
        fold: &Fold,
        edits: &Edits,
        new: NewSnapshot<'_>,
        now: LogTime,
    ) -> Result<Cut, EncodeError> {
        self.is_small_again = false;
        if let Some(found) = self.found.take() {
            self.pair = Pair::resume(Arc::new(found), fold, now);
        }
        // If there is an error, the pair is gone: it has taken over edits that the next attempt gets again.
        if let Some(mut pair) = self.pair.take() {
            pair.update(fold, edits, now);
            match pair.cut(fold, new, now, self.limits.most_bytes) {
                Ok(cut) => {
                    self.pair = Some(pair);
                    return Ok(cut);
                }
                // A new base may be shorter.
                Err(EncodeError::TooLong { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let whole = cut::cut(fold, new, now)?;
        let length = whole.snapshot.len();
        if length > self.limits.most_bytes {
            return Err(EncodeError::TooLong { length });
        }
        if table_bytes(&whole.snapshot) < self.limits.least_bytes {
            return Ok(Cut { base: Some(Arc::clone(&self.empty)), ..whole });
        }
        let mut base = whole.snapshot;
        make_base(&mut base);
        let base = opened(base.into()).ok_or(EncodeError::Header)?;
        self.pair.insert(Pair::new(Arc::new(base), now)).cut(fold, new, now, self.limits.most_bytes)
    }

    /// What was shipped last is still what the lists are at `now`.
    pub(super) fn note_unchanged(&mut self, now: LogTime) {
        if let Some(pair) = &mut self.pair {
            pair.note_unchanged(now);
        }
    }

    /// As [`Publisher::rebase`](super::Publisher::rebase). `overlay` is what was shipped last.
    pub(super) fn rebase(&mut self, overlay: &Bytes) -> Option<Rebase> {
        let base = self.pair.as_mut()?.start_rebase()?;
        Some(Rebase { base, overlay: overlay.clone() })
    }

    /// As [`Publisher::rebased`](super::Publisher::rebased).
    pub(super) fn rebased(&mut self, outcome: Option<Result<Vec<u8>, EncodeError>>) -> Result<(), EncodeError> {
        let Some(pair) = &mut self.pair else { return Ok(()) };
        let base = match outcome.transpose() {
            Ok(base) => base.and_then(|base| opened(base.into())),
            Err(error) => {
                pair.end_rebase(None);
                return Err(error);
            }
        };
        if base.as_ref().is_some_and(|base| table_bytes(base.bytes()) < self.limits.least_bytes / 2) {
            (self.pair, self.is_small_again) = (None, true);
        } else {
            pair.end_rebase(base.map(Arc::new));
        }
        Ok(())
    }

    /// Whether something is to be cut even if nothing has changed.
    pub(super) fn is_cut_due(&self) -> bool {
        self.is_small_again || self.found.is_some() || self.pair.as_ref().is_some_and(Pair::has_new_base)
    }
}
