//! Delivers shipments as files that Envoy watches.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgefold_snapshot::{Fingerprint, MAX_SNAPSHOT_BYTES, Role, Snapshot, SnapshotFile};
use tempfile::NamedTempFile;
use tracing::warn;

use crate::modules;
use crate::replace::{Identity, folder, publish, remove_temporary, stage};

use super::ecds::{Code, FilterHost, FilterKind, Payload, Resource, is_native, payload_in, shipment_in};
use super::snapshot_files::{self, MOST_INLINE_BYTES, SnapshotFiles, read_named};
use super::{ShipError, Shipment, Subscriber, cut};

/// The files with the resources of one filter.
#[derive(Debug)]
pub struct Files {
    places: Vec<Place>,
    host: FilterHost,
    /// The path of the file with the module, as Envoy sees it; `None` if each resource has the module in it.
    module_path: Option<String>,
    /// `None` before the first delivery.
    snapshots: Option<SnapshotFiles>,
    /// How many repairs were tried, for their ids.
    repairs: u64,
}

/// A file that is shipped to.
#[derive(Debug)]
struct Place {
    content: Content,
    path: PathBuf,
    /// How the file was left; `None` before the first delivery.
    left: Option<Identity>,
    /// The id of the shipment in it then.
    id: String,
    /// Whether Envoy may have refused what is there, since something that it names was missing.
    may_be_refused: bool,
    /// Locked as long as this process lives, so that no other ships to the same file. All may write the same module.
    _lock: Option<File>,
}

/// A place whose file must be written.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: usize,
    /// Whether Envoy may have had the same, or may have refused it: then it needs another id.
    is_again: bool,
}

/// What is in a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Content {
    /// The module that the resources name.
    Module,
    /// A large snapshot that resources for the dynamic module name. They lie beside the module.
    Snapshot(Fingerprint),
    Resource(FilterKind),
}

impl Content {
    /// Whether resources name the file.
    fn is_named(self) -> bool {
        matches!(self, Self::Module | Self::Snapshot(_))
    }
}

impl Files {
    /// Ships the HTTP filter to the file `http` and the network filter to the file `network`, if given. What a process that was
    /// killed has left beside them is removed.
    ///
    /// # Errors
    /// [`ShipError::Locked`] if another process ships to one of them, [`ShipError::NoFolder`], and [`ShipError::File`].
    pub fn new(http: Option<PathBuf>, network: Option<PathBuf>, host: FilterHost) -> Result<Self, ShipError> {
        let network = network.map(|path| Place::open(FilterKind::Network, path));
        let http = http.map(|path| Place::open(FilterKind::Http, path));
        let places = network.into_iter().chain(http).collect::<Result<_, _>>()?;
        Ok(Self { places, host, module_path: None, snapshots: None, repairs: 0 })
    }

    /// Ships the base of the filters to a file of its own.
    ///
    /// # Errors
    /// Those of [`Files::new`].
    pub fn with_base(mut self, path: PathBuf) -> Result<Self, ShipError> {
        self.places.insert(0, Place::open(FilterKind::Base, path)?);
        Ok(self)
    }

    /// Ships `module` to a file beside the others, whose name tells versions apart, rather than in each resource. It is beside the base, if
    /// there is one. Envoy finds that folder at `envoy_folder`, if not at the same path.
    ///
    /// For the dynamic module, large snapshots get files there too.
    ///
    /// # Errors
    /// [`ShipError::File`] if the folder cannot be found.
    pub fn with_module(mut self, envoy_folder: Option<&str>, module: &'static [u8]) -> Result<Self, ShipError> {
        let Some(beside) = self.places.first() else { return Ok(self) };
        let failed = beside.failed();
        let name = modules::file_name(self.host, module);
        let here = folder(&beside.path).canonicalize().and_then(|here| {
            let is_text = || {
                io::Error::new(io::ErrorKind::InvalidInput, "the path of the folder is not UTF-8, which Envoy needs")
            };
            here.to_str().map(str::to_owned).ok_or_else(is_text)
        });
        let here = match envoy_folder {
            Some(folder) => folder.to_owned(),
            None => here.map_err(failed)?,
        };
        self.module_path = Some(format!("{}/{name}", here.trim_end_matches('/')));
        let path = folder(&beside.path).join(name);
        // Another process may be about to write the same module.
        remove_temporary(&path, Duration::from_secs(600));
        self.places.insert(0, Place::named(Content::Module, path));
        Ok(self)
    }

    /// The base that is in its file, from whichever process.
    pub fn found_base(&self) -> Option<Snapshot<Bytes>> {
        let base = self.places.iter().find(|place| place.content == Content::Resource(FilterKind::Base))?;
        // Nobody has shipped more than that.
        fs::metadata(&base.path).ok().filter(|file| file.size() < MAX_SNAPSHOT_BYTES as u64 + (1 << 20))?;
        let snapshot = match payload_in(&read(&base.path)?)? {
            Payload::Inline(snapshot) => snapshot,
            Payload::File(file) => read_named(&file, &base.path).ok()?.1,
        };
        let snapshot = Snapshot::open(snapshot).ok()?;
        Some(snapshot).filter(|snapshot| snapshot.header().role == Role::Base)
    }

    /// The snapshot that a resource of this kind has.
    fn snapshot_for(kind: FilterKind, shipment: &Shipment) -> &Bytes {
        match &shipment.base {
            Some(base) if kind == FilterKind::Base => base.bytes(),
            _ => &shipment.snapshot,
        }
    }

    /// The fingerprint of a snapshot, if it gets a file of its own.
    fn in_file(&self, snapshot: &[u8]) -> Option<Fingerprint> {
        let has_file = self.host == FilterHost::Native && self.module_path.is_some();
        Fingerprint::of(snapshot).filter(|_| has_file && snapshot.len() > MOST_INLINE_BYTES)
    }

    /// The snapshots of a shipment that get files of their own.
    fn in_files<'a>(&self, shipment: &'a Shipment) -> impl Iterator<Item = (Fingerprint, &'a Bytes)> {
        let kinds = self.places.iter().filter_map(|place| match place.content {
            Content::Resource(kind) => Some(kind),
            Content::Module | Content::Snapshot(_) => None,
        });
        let snapshots = kinds.map(|kind| Self::snapshot_for(kind, shipment));
        snapshots.filter_map(|snapshot| Some((self.in_file(snapshot)?, snapshot)))
    }

    fn place_of(&self, content: Content) -> Option<&Place> {
        self.places.iter().find(|place| place.content == content)
    }

    /// The places that the resource in this one names.
    fn named_by(&self, place: &Place, shipment: &Shipment) -> impl Iterator<Item = &Place> {
        let named = match place.content {
            Content::Resource(kind) => {
                let snapshot = self.in_file(Self::snapshot_for(kind, shipment));
                [Some(Content::Module), snapshot.map(Content::Snapshot)]
            }
            Content::Module | Content::Snapshot(_) => [None, None],
        };
        named.into_iter().flatten().filter_map(|named| self.place_of(named))
    }

    /// Tells the files that a resource names from others in their place: a part of its id. An Envoy that has found no such file has refused the
    /// resource, and does not look again when the file comes. By this, a process that starts sees that it came later.
    fn tag(&self, place: &Place, shipment: &Shipment, staged: &[(usize, NamedTempFile)]) -> String {
        let tag = |named: &Place| {
            let is_it = |(at, _): &&(usize, NamedTempFile)| self.places[*at].content == named.content;
            let path = staged.iter().find(is_it).map_or(&*named.path, |(_, file)| file.path());
            Identity::at(path).map_or("~".to_owned(), |identity| format!("~{identity}"))
        };
        self.named_by(place, shipment).map(tag).collect()
    }

    /// The file with a snapshot: beside the module, with a name that begins like that of a resource. Nobody else ships to that resource, so
    /// nobody else has such files.
    fn snapshot_path(&self, fingerprint: Fingerprint) -> PathBuf {
        let (resource, beside) = (self.places.iter().find(|place| !place.content.is_named()), self.places.first());
        let folder = beside.map_or(Path::new("."), |place| folder(&place.path));
        folder.join(snapshot_files::name(resource.map_or(Path::new(""), |place| &place.path), fingerprint))
    }

    /// Makes places for the snapshots of a shipment, before those of the resources that name them, and forgets those of others. Removes files
    /// that nobody needs any more: before others are written, since there may be no room for more.
    fn place_snapshots(&mut self, shipment: &Shipment) {
        let wanted: Vec<Content> =
            self.in_files(shipment).map(|(fingerprint, _)| Content::Snapshot(fingerprint)).collect();
        let is_needed =
            |place: &Place| !matches!(place.content, Content::Snapshot(_)) || wanted.contains(&place.content);
        self.places.retain(is_needed);
        let mut is_other = false;
        for content in &wanted {
            if let (Content::Snapshot(fingerprint), None) = (content, self.place_of(*content)) {
                let path = self.snapshot_path(*fingerprint);
                self.places.insert(1, Place::named(*content, path));
                is_other = true;
            }
        }
        let resources = self.places.iter().filter(|place| !place.content.is_named());
        let mut there =
            self.snapshots.take().unwrap_or_else(|| SnapshotFiles::find(resources.map(|place| &*place.path)));
        let snapshots = self.places.iter().filter(|place| matches!(place.content, Content::Snapshot(_)));
        let wanted = snapshots.map(|place| place.path.clone()).collect();
        there.keep(wanted, &self.places.iter().map(|place| folder(&place.path)).collect(), is_other);
        self.snapshots = Some(there);
    }

    /// The places in the order in which they are written, so that an Envoy that starts in the middle finds what it can serve: a base
    /// before an overlay over it, but after a whole snapshot.
    fn in_order(&self, shipment: &Shipment) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        let is_base = |at: &usize| self.places[*at].content == Content::Resource(FilterKind::Base);
        order.sort_by_key(|at| !shipment.is_overlay && is_base(at));
        order
    }

    /// The id and version of what a place should have.
    fn content_id(content: Content, shipment: &Shipment) -> String {
        match (content, &shipment.base) {
            (Content::Module | Content::Snapshot(_), _) => String::new(),
            (Content::Resource(FilterKind::Base), Some(base)) => base.fingerprint().to_string(),
            (Content::Resource(_), _) => shipment.id.clone(),
        }
    }

    /// The id of what is written again. It is another one each time, because Envoy may have taken what somebody else has put there, and may still
    /// have what was there before, for an open connection, or remember that it has refused it. The id of the shipment tells it from those of
    /// other processes.
    fn repair_id(content: Content, shipment: &Shipment, repairs: u64) -> String {
        format!("{}.{}.{repairs}", Self::content_id(content, shipment), shipment.id)
    }

    /// What a place should have, under this id.
    fn bytes(&self, content: Content, shipment: &Shipment, id: &str) -> Bytes {
        let kind = match content {
            Content::Module => return Bytes::from_static(shipment.module),
            Content::Snapshot(_) => {
                let mut snapshots = self.in_files(shipment);
                let snapshot = snapshots.find(|(fingerprint, _)| Content::Snapshot(*fingerprint) == content);
                return snapshot.map_or(Bytes::new(), |(_, bytes)| bytes.clone());
            }
            Content::Resource(kind) => kind,
        };
        let base = shipment.base.as_ref().filter(|_| kind == FilterKind::Base);
        let version = base.map_or_else(|| shipment.version.clone(), |base| cut::base_version(base));
        let code = match &self.module_path {
            Some(path) => Code::File(path),
            None => Code::Inline(shipment.module),
        };
        let snapshot = Self::snapshot_for(kind, shipment);
        let snapshot = match (self.in_file(snapshot), &self.module_path) {
            (Some(fingerprint), Some(module)) => {
                // Where Envoy sees it: beside the module.
                let name = self.snapshot_path(fingerprint).file_name().unwrap_or_default().to_owned();
                let path = Path::new(module).with_file_name(name);
                Payload::File(SnapshotFile { path: path.to_string_lossy().into_owned(), fingerprint })
            }
            _ => Payload::Inline(snapshot.clone()),
        };
        let (name, host) = (&shipment.name, self.host);
        Resource { kind, name, version: &version, shipment: id, host, code, snapshot }.encode().into()
    }

    /// Envoy's configuration names the type of filter that it takes, and it refuses others for ever.
    fn warn_of_other_host(&self, place: &Place, file: &Bytes) {
        let is_resource = !place.content.is_named();
        if is_resource && is_native(file).is_some_and(|is_native| is_native != (self.host == FilterHost::Native)) {
            warn!(
                "{}: an earlier serve shipped here with the other --filter. An Envoy whose configuration does not name both types refuses what \
                 comes now, and keeps what it has until it restarts: docs/filter.md, \"The native host\"",
                place.path.display()
            );
        }
    }

    /// Whether `file` is what the place should have, under any id.
    fn holds(&self, place: &Place, shipment: &Shipment, file: &Bytes) -> bool {
        let id = if place.content.is_named() { Some(String::new()) } else { shipment_in(file) };
        id.is_some_and(|id| self.bytes(place.content, shipment, &id) == file)
    }

    /// The places that do not have what they should, in the order in which they are written.
    fn due(&mut self, shipment: &Shipment) -> Vec<Due> {
        let (mut due, mut replaced) = (Vec::new(), Vec::new());
        for at in self.in_order(shipment) {
            let place = &self.places[at];
            let id = Self::content_id(place.content, shipment);
            // Before the file is read: whoever replaces it in between is noticed the next time.
            let found = Identity::at(&place.path);
            let (is_first, is_untouched) = (place.left.is_none(), found.is_some() && found == place.left);
            let is_known = is_untouched && place.id == id;
            let is_other = !is_first && place.id != id;
            let file = if is_known || is_other { None } else { read(&place.path) };
            if let Some(file) = file.as_ref().filter(|_| is_first) {
                self.warn_of_other_host(place, file);
            }
            let holds = is_known || file.as_ref().is_some_and(|file| self.holds(place, shipment, file));
            if place.content.is_named() && (!holds || !is_first && !is_untouched) {
                // Envoy may have refused what names it, while it was not there.
                replaced.push(place.content);
            }
            let names_replaced = self.named_by(place, shipment).any(|named| replaced.contains(&named.content));
            // Also while no process was there to see it.
            let is_older = is_first
                && file.as_ref().and_then(shipment_in).is_some_and(|id| !id.ends_with(&self.tag(place, shipment, &[])));
            let place = &mut self.places[at];
            place.may_be_refused |= names_replaced || is_older;
            if !holds || place.may_be_refused {
                // After a restart or a damage, Envoy may have had this already.
                let is_again = !is_other && (!is_first || holds);
                due.push(Due { at, is_again });
            } else {
                (place.left, place.id) = (found, id);
            }
        }
        due
    }

    /// Writes the files at these places, and returns how many bytes they have. Each is written beside its place first, so that a full disk changes
    /// none.
    fn write(&mut self, shipment: &Shipment, due: &[Due]) -> Result<u64, ShipError> {
        self.repairs += u64::from(due.iter().any(|due| due.is_again));
        let (mut written, mut staged) = (0, Vec::new());
        // What is named comes before what names it.
        for Due { at, is_again } in due {
            let place = &self.places[*at];
            let id = match is_again {
                true => Self::repair_id(place.content, shipment, self.repairs),
                false => Self::content_id(place.content, shipment),
            };
            let id = format!("{id}{}", self.tag(place, shipment, &staged));
            let bytes = self.bytes(place.content, shipment, &id);
            if matches!(place.content, Content::Snapshot(_)) {
                // The module does not validate it again.
                Snapshot::open(&bytes).map_err(ShipError::Invalid)?;
            }
            written += bytes.len() as u64;
            staged.push((*at, stage(&place.path, &bytes).map_err(place.failed())?));
        }
        for (at, file) in staged {
            let path = &self.places[at].path;
            let left = publish(file, path).map_err(self.places[at].failed())?;
            if self.places[at].content.is_named() || self.places[at].content == Content::Resource(FilterKind::Base) {
                // After a power failure an overlay must not be there without its base, nor a resource without what it names.
                let synced = File::open(folder(path)).and_then(|folder| folder.sync_all());
                synced.map_err(self.places[at].failed())?;
            }
            self.places[at].left = Some(Identity::of(&left));
            self.places[at].id = Self::content_id(self.places[at].content, shipment);
            self.places[at].may_be_refused = false;
        }
        Ok(written)
    }
}

impl Place {
    /// One that resources name.
    fn named(content: Content, path: PathBuf) -> Self {
        Self { content, path, left: None, id: String::new(), may_be_refused: false, _lock: None }
    }

    fn open(kind: FilterKind, path: PathBuf) -> Result<Self, ShipError> {
        let failed = |source| ShipError::File { path: path.clone(), source };
        if !folder(&path).is_dir() {
            return Err(ShipError::NoFolder { path: folder(&path).to_owned() });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let lock = File::create(folder(&path).join(format!(".{name}.lock"))).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ShipError::Locked { path }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        remove_temporary(&path, Duration::ZERO);
        Ok(Self {
            content: Content::Resource(kind),
            path,
            left: None,
            id: String::new(),
            may_be_refused: false,
            _lock: Some(lock),
        })
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> ShipError + use<> {
        let path = self.path.clone();
        |source| ShipError::File { path, source }
    }
}

impl Subscriber for Files {
    fn deliver(&mut self, shipment: &Arc<Shipment>) -> Result<u64, ShipError> {
        self.place_snapshots(shipment);
        let due = self.due(shipment);
        self.write(shipment, &due)
    }

    fn repair(&mut self, shipment: &Arc<Shipment>) -> Result<bool, ShipError> {
        let due = self.due(shipment);
        if due.is_empty() {
            return Ok(false);
        }
        self.write(shipment, &due)?;
        Ok(true)
    }
}

fn read(path: &Path) -> Option<Bytes> {
    fs::read(path).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use crate::replace::replace_file;
    use crate::ship::ecds::{FailurePolicy, snapshot_in};
    use std::ffi::OsStr;
    use std::io::Write;
    use std::net::Ipv4Addr;

    use edgefold::{Edits, Fold, LogTime, Record};
    use edgefold_snapshot::Settings;
    use tempfile::TempDir;

    use super::*;
    use crate::ship::{BaseLimits, Publisher};

    fn shipment(millis: u64) -> Arc<Shipment> {
        let now = LogTime::from_millis(millis).unwrap();
        let mut publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        Arc::clone(publisher.publish(&Fold::default(), &mut Edits::default(), now, now).unwrap())
    }

    /// The names of the files in a folder that are not hidden, and the number of those that are.
    fn listed(folder: &Path) -> (Vec<String>, usize) {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let (hidden, mut names): (Vec<_>, Vec<_>) = names.partition(|name| name.starts_with('.'));
        names.sort();
        (names, hidden.len())
    }

    #[test]
    fn a_restart_does_not_write_what_is_there_already() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        let deliver = |millis, host| {
            let mut files = Files::new(Some(path.clone()), None, host).unwrap();
            files.deliver(&shipment(millis)).unwrap();
            assert!(!files.repair(&shipment(millis)).unwrap());
            shipment_in(&fs::read(&path).unwrap().into()).unwrap()
        };
        assert_eq!(deliver(1, FilterHost::Wasm(FailurePolicy::Reload)), "1");
        assert_eq!(deliver(2, FilterHost::Wasm(FailurePolicy::Reload)), "1", "the same state");
        assert_eq!(deliver(3, FilterHost::Wasm(FailurePolicy::Closed)), "3", "another resource");
        fs::write(&path, b"damaged").unwrap();
        assert_eq!(deliver(4, FilterHost::Wasm(FailurePolicy::Closed)), "4");
    }

    /// Found by a trial: a file that was deleted stayed so until the next command, and an Envoy that restarted then let everything
    /// pass.
    #[test]
    fn a_file_that_somebody_else_deletes_or_overwrites_is_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let [http, network] = ["http.pb", "network.pb"].map(|name| directory.path().join(name));
        let mut files =
            Files::new(Some(http.clone()), Some(network.clone()), FilterHost::Wasm(FailurePolicy::Reload)).unwrap();
        let shipment = shipment(1);
        files.deliver(&shipment).unwrap();
        let read = |path| Bytes::from(fs::read(path).unwrap());
        let mut ids = vec![shipment_in(&read(&http)).unwrap()];
        let untouched = fs::metadata(&http).unwrap().ino();
        File::options().append(true).open(&http).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert!(!files.repair(&shipment).unwrap(), "only its time has changed");
        assert_eq!(fs::metadata(&http).unwrap().ino(), untouched);
        let damages: [&dyn Fn(&Path); 4] = [
            &|path| fs::remove_file(path).unwrap(),
            &|path| fs::write(path, b"something else").unwrap(),
            &|path| replace_file(path, b"something else").unwrap(),
            &|path| File::options().append(true).open(path).unwrap().write_all(b"?").unwrap(),
        ];
        for damage in damages {
            for path in [&http, &network] {
                assert!(!files.repair(&shipment).unwrap());
                damage(path);
                assert!(files.repair(&shipment).unwrap());
                assert!(
                    [&http, &network].into_iter().all(|path| snapshot_in(&read(path)).unwrap() == shipment.snapshot)
                );
                // Envoy may still have what it had before, for an open connection, and would not configure that again.
                let id = shipment_in(&read(path)).unwrap();
                assert!(!ids.contains(&id), "{id} after {ids:?}");
                ids.push(id);
            }
        }
        drop(files);
        let mut restarted =
            Files::new(Some(http.clone()), Some(network.clone()), FilterHost::Wasm(FailurePolicy::Reload)).unwrap();
        let shipment = self::shipment(2);
        restarted.deliver(&shipment).unwrap();
        fs::remove_file(&http).unwrap();
        assert!(restarted.repair(&shipment).unwrap());
        let id = shipment_in(&read(&http)).unwrap();
        assert!(!ids.contains(&id), "{id} after {ids:?}, and a restart");
    }

    #[test]
    fn the_two_files_change_together_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let [http, network] = [directory.path().join("http.pb"), directory.path().join("other/network.pb")];
        fs::create_dir(network.parent().unwrap()).unwrap();
        let mut files =
            Files::new(Some(http.clone()), Some(network.clone()), FilterHost::Wasm(FailurePolicy::Reload)).unwrap();
        files.deliver(&shipment(1)).unwrap();
        let before = [&http, &network].map(|path| fs::read(path).unwrap());
        // Nothing can be written beside the second one.
        fs::rename(network.parent().unwrap(), directory.path().join("away")).unwrap();
        assert!(files.deliver(&shipment(2)).is_err());
        fs::rename(directory.path().join("away"), network.parent().unwrap()).unwrap();
        assert!([&http, &network].map(|path| fs::read(path).unwrap()) == before);
        files.deliver(&shipment(2)).unwrap();
        assert_eq!(shipment_in(&fs::read(&http).unwrap().into()).unwrap(), "2");
    }

    /// A shipment of a base, which is of use to the overlay over it.
    fn pair(millis: u64, found: Option<Snapshot<Bytes>>) -> Arc<Shipment> {
        let now = LogTime::from_millis(millis).unwrap();
        let publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        let mut publisher =
            publisher.with_bases(BaseLimits { least_bytes: 0, ..BaseLimits::default() }, found).unwrap();
        Arc::clone(publisher.publish(&Fold::default(), &mut Edits::default(), now, now).unwrap())
    }

    fn resource(path: &Path) -> Bytes {
        Bytes::from(fs::read(path).unwrap())
    }

    #[test]
    fn a_base_has_a_file_of_its_own_and_the_module_lies_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let [http, base] = ["http.pb", "base.pb"].map(|name| directory.path().join(name));
        let open = |envoy_folder: Option<&str>| {
            let files = Files::new(Some(http.clone()), None, FilterHost::Wasm(FailurePolicy::Reload)).unwrap();
            files.with_base(base.clone()).and_then(|files| files.with_module(envoy_folder, b"module")).unwrap()
        };
        let mut files = open(None);
        assert!(files.found_base().is_none());
        let shipment = pair(1, None);
        let first = files.deliver(&shipment).unwrap();
        let module = modules::file_name(FilterHost::Wasm(FailurePolicy::Reload), b"module");
        assert_eq!(listed(directory.path()).0, ["base.pb", &module, "http.pb"]);
        assert_eq!(fs::read(directory.path().join(&module)).unwrap(), b"module");
        let names = |path: &Path, folder: &Path| {
            let name = folder.join(&module).to_str().unwrap().to_owned();
            resource(path).windows(name.len()).any(|bytes| bytes == name.as_bytes())
        };
        assert!([&http, &base].into_iter().all(|path| names(path, &directory.path().canonicalize().unwrap())));
        assert_eq!(snapshot_in(&resource(&base)).as_ref(), Some(shipment.base.as_ref().unwrap().bytes()));
        assert_eq!(snapshot_in(&resource(&http)).as_ref(), Some(&shipment.snapshot));
        let untouched = [&base, &directory.path().join(&module)].map(|path| fs::metadata(path).unwrap().ino());
        // Another overlay over the same base, and a restart that goes on with that.
        let next = pair(2, files.found_base());
        assert!(files.deliver(&next).unwrap() < first);
        drop(files);
        let mut files = open(None);
        files.deliver(&pair(3, files.found_base())).unwrap();
        assert_eq!(untouched, [&base, &directory.path().join(&module)].map(|path| fs::metadata(path).unwrap().ino()));
        drop(files);
        let elsewhere = "/etc/edgefold";
        open(Some(elsewhere)).deliver(&next).unwrap();
        assert!([&http, &base].into_iter().all(|path| names(path, Path::new(elsewhere))));
        fs::write(&base, b"something else").unwrap();
        assert!(open(None).found_base().is_none());
    }

    /// Found by a test with a real Envoy: it had refused an overlay while the module was away, and waited for the next change.
    /// Found by a newcomer: Envoy had refused both while the module was not there, and never tried again.
    #[test]
    fn if_the_module_is_missing_at_a_start_everything_that_names_it_is_shipped_again() {
        let directory = tempfile::tempdir().unwrap();
        let [http, base] = ["http.pb", "base.pb"].map(|name| directory.path().join(name));
        let open = || {
            let files = Files::new(Some(http.clone()), None, FilterHost::Wasm(FailurePolicy::Reload)).unwrap();
            files.with_base(base.clone()).and_then(|files| files.with_module(None, b"module")).unwrap()
        };
        let shipment = pair(1, None);
        open().deliver(&shipment).unwrap();
        let before = [&http, &base].map(|path| resource(path));
        open().deliver(&shipment).unwrap();
        assert!([&http, &base].map(|path| resource(path)) == before, "what Envoy has is not shipped again");
        let module = directory.path().join(modules::file_name(FilterHost::Wasm(FailurePolicy::Reload), b"module"));
        fs::remove_file(&module).unwrap();
        open().deliver(&shipment).unwrap();
        assert_eq!(fs::read(&module).unwrap(), b"module");
        for (path, before) in [&http, &base].into_iter().zip(&before) {
            let after = resource(path);
            assert!(after != *before && snapshot_in(&after) == snapshot_in(before), "{}", path.display());
        }
    }

    #[test]
    fn if_the_module_is_removed_everything_that_names_it_is_shipped_again() {
        let directory = tempfile::tempdir().unwrap();
        let [http, base] = ["http.pb", "base.pb"].map(|name| directory.path().join(name));
        let files = Files::new(Some(http.clone()), None, FilterHost::Wasm(FailurePolicy::Reload)).unwrap();
        let mut files = files.with_base(base.clone()).and_then(|files| files.with_module(None, b"module")).unwrap();
        let shipment = pair(1, None);
        files.deliver(&shipment).unwrap();
        let ids = || [&http, &base].map(|path| shipment_in(&resource(path)).unwrap());
        let before = ids();
        let module = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
        let module = module.into_iter().find(|path| path.extension() == Some(OsStr::new("wasm"))).unwrap();
        fs::remove_file(&module).unwrap();
        assert!(files.repair(&shipment).unwrap());
        assert_eq!(fs::read(&module).unwrap(), b"module");
        assert!(ids().iter().zip(&before).all(|(id, before)| id != before), "{:?} after {before:?}", ids());
        assert!(!files.repair(&shipment).unwrap());
        // Of the rest, only what is damaged.
        let before = ids();
        fs::remove_file(&base).unwrap();
        assert!(files.repair(&shipment).unwrap());
        assert!(ids()[0] == before[0] && ids()[1] != before[1]);
    }

    /// A list whose table is larger than what is shipped in a resource, and the address with this number besides.
    fn large(number: u8) -> Fold {
        let mut fold = Fold::default();
        let many = (0..30_000_u32).map(|place| Ipv4Addr::from((20 << 24) + 3 * place));
        apply(&mut fold, &mut Edits::default(), many.chain([[10, 0, 0, number].into()]));
        fold
    }

    /// Blocks these addresses.
    fn apply(fold: &mut Fold, edits: &mut Edits, blocked: impl Iterator<Item = Ipv4Addr>) {
        for (offset, ip) in (fold.position().next_offset..).zip(blocked) {
            let value = Some(format!("BLACKLIST {ip}").into_bytes());
            let record = Record { offset, timestamp: Some(LogTime::from_millis(0).unwrap()), key: None, value };
            let _rejected = fold.apply(&record, edits);
        }
    }

    /// Large lists shipped to the dynamic module.
    struct Native {
        directory: TempDir,
        has_base: bool,
    }

    impl Native {
        fn new(has_base: bool) -> Self {
            Self { directory: tempfile::tempdir().unwrap(), has_base }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn open(&self, envoy_folder: Option<&str>) -> Files {
            let [http, network] = ["http.pb", "network.pb"].map(|name| Some(self.path(name)));
            let mut files = Files::new(http, network, FilterHost::Native).unwrap();
            if self.has_base {
                files = files.with_base(self.path("base.pb")).unwrap();
            }
            files.with_module(envoy_folder, b"module").unwrap()
        }

        /// Starts again.
        fn reopen(&self, files: Files) -> Files {
            drop(files);
            self.open(None)
        }

        fn publish(&self, number: u8, found: Option<Snapshot<Bytes>>) -> Arc<Shipment> {
            let now = LogTime::from_millis(number.into()).unwrap();
            let mut publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
            if self.has_base {
                publisher = publisher.with_bases(BaseLimits::default(), found).unwrap();
            }
            Arc::clone(publisher.publish(&large(number), &mut Edits::default(), now, now).unwrap())
        }

        /// The files with snapshots.
        fn snapshots(&self) -> Vec<PathBuf> {
            let names = listed(self.directory.path()).0.into_iter();
            names.filter(|name| name.ends_with(".snapshot")).map(|name| self.path(&name)).collect()
        }

        /// What is in the files of all three resources.
        fn resources(&self) -> [Bytes; 3] {
            ["http.pb", "network.pb", "base.pb"].map(|name| resource(&self.path(name)))
        }

        /// The file that a resource names.
        fn named(&self, resource: &str) -> Option<SnapshotFile> {
            match payload_in(&self::resource(&self.path(resource))).unwrap() {
                Payload::File(file) => Some(file),
                Payload::Inline(_) => None,
            }
        }
    }

    #[test]
    fn for_the_dynamic_module_a_large_base_lies_in_a_file_that_its_resource_names() {
        let native = Native::new(true);
        let mut files = native.open(None);
        let shipment = native.publish(1, None);
        let base = shipment.base.as_ref().unwrap();
        assert!(files.deliver(&shipment).unwrap() > base.bytes().len() as u64);
        let named = native.named("base.pb").unwrap();
        assert_eq!(named.fingerprint, base.fingerprint());
        let path =
            native.directory.path().canonicalize().unwrap().join(format!("base.{}.snapshot", base.fingerprint()));
        assert_eq!(Path::new(&named.path), path);
        assert!(fs::read(&path).unwrap() == *base.bytes() && native.snapshots().len() == 1);
        // The overlay is small.
        assert!(native.named("http.pb").is_none() && snapshot_in(&resource(&native.path("http.pb"))).is_some());
        let found = files.found_base().unwrap();
        assert_eq!(found.fingerprint(), base.fingerprint());
        // A change costs what has changed, also after a restart.
        assert!(files.deliver(&native.publish(2, Some(found))).unwrap() < 2048);
        drop(files);
        let mut files = native.open(Some("/elsewhere"));
        let next = native.publish(3, files.found_base());
        files.deliver(&next).unwrap();
        let named = native.named("base.pb").unwrap();
        assert_eq!(named.path, format!("/elsewhere/base.{}.snapshot", base.fingerprint()));
        assert!(files.found_base().is_some(), "it lies beside the resource, whatever Envoy calls that folder");
        fs::write(&path, b"something else").unwrap();
        assert!(files.found_base().is_none());
        let error = read_named(&named, &native.path("base.pb")).unwrap_err().to_string();
        assert!(error.contains("it is not the snapshot ") && error.contains(path.to_str().unwrap()), "{error}");
    }

    #[test]
    fn of_the_files_with_snapshots_the_last_two_stay() {
        let native = Native::new(false);
        let others =
            ["network.0123456789abcdef.snapshot.txt", "network.b0cc.snapshot", "list.b0cc6707ae634e46.snapshot"];
        others.iter().for_each(|name| fs::write(native.path(name), b"somebody else's").unwrap());
        let left = native.path("network.b0cc6707ae634e46.snapshot");
        fs::write(&left, b"of a process that was killed").unwrap();
        let half = stage(&left, b"half").unwrap().into_temp_path().keep().unwrap();
        let mut files = native.open(None);
        let mut last = None;
        for number in [1, 2, 3, 2, 3, 4] {
            if number == 4 {
                files = native.reopen(files);
            }
            let shipment = native.publish(number, None);
            files.deliver(&shipment).unwrap();
            assert!(!left.exists() && !half.exists());
            let named = native.named("http.pb").unwrap();
            assert_eq!(Some(&named), native.named("network.pb").as_ref(), "both have one");
            assert!(Some(named.fingerprint) == Fingerprint::of(&shipment.snapshot) && last.as_ref() != Some(&named));
            // Envoy may be about to read the last one.
            let stay: Vec<SnapshotFile> = [named.clone()].into_iter().chain(last).collect();
            assert!(stay.iter().all(|file| read_named(file, &native.path("http.pb")).is_ok()));
            assert_eq!(native.snapshots().len(), stay.len() + others.len() - 1);
            assert!(!files.repair(&shipment).unwrap());
            last = Some(named);
        }
        // The list becomes small.
        let small = Arc::clone(&shipment(10));
        files.deliver(&small).unwrap();
        native.reopen(files).deliver(&shipment(11)).unwrap();
        assert_eq!(native.snapshots().len(), others.len() - 1);
        assert!(others.iter().all(|name| native.path(name).exists()));
    }

    /// Found by a review: it published a resource without the file that it names, which was missing and could not be written.
    #[test]
    fn nothing_changes_while_a_file_that_is_named_cannot_be_written() {
        let native = Native::new(true);
        let mut files = native.open(None);
        let first = native.publish(1, None);
        files.deliver(&first).unwrap();
        let snapshot = native.snapshots().remove(0);
        let module = native.path(&modules::file_name(FilterHost::Native, b"module"));
        let resources = || native.resources();
        let ids = || native.resources().map(|resource| shipment_in(&resource).unwrap());
        let next = native.publish(2, files.found_base());
        // Nothing can be put in the place of a folder. All resources name the module, and one the snapshot.
        for (named, count) in [(&snapshot, 2), (&module, 3)] {
            let (before, ids_before) = (resources(), ids());
            fs::remove_file(named).unwrap();
            fs::create_dir(named).unwrap();
            for _ in 0..2 {
                assert!(files.repair(&first).is_err() && files.deliver(&next).is_err());
            }
            assert!(resources() == before);
            fs::remove_dir(named).unwrap();
            files.deliver(&next).unwrap();
            let changed = ids().iter().zip(&ids_before).filter(|(id, before)| id != before).count();
            assert!(named.is_file() && changed >= count, "{:?} after {ids_before:?}", ids());
            assert!(!files.repair(&next).unwrap());
        }
    }

    /// Found by a review: whatever names a file that was written again is written too, even if that fails at first.
    #[test]
    fn what_may_be_refused_is_shipped_again_after_an_error_too() {
        let native = Native::new(false);
        let mut files = native.open(None);
        let shipment = native.publish(1, None);
        files.deliver(&shipment).unwrap();
        let (http, network) = (native.path("http.pb"), native.path("network.pb"));
        let id = || shipment_in(&resource(&http)).unwrap();
        let before = id();
        fs::remove_file(native.snapshots().remove(0)).unwrap();
        fs::remove_file(&network).unwrap();
        fs::create_dir(&network).unwrap();
        assert!(files.repair(&shipment).is_err() && native.snapshots().len() == 1 && id() == before);
        fs::remove_dir(&network).unwrap();
        assert!(files.repair(&shipment).unwrap() && id() != before);
        assert!(!files.repair(&shipment).unwrap());
    }

    /// Found by a review: while no process was there to see it.
    #[test]
    fn what_names_another_file_than_before_is_shipped_again_at_a_start() {
        let native = Native::new(true);
        let shipment = native.publish(1, None);
        let mut files = native.open(None);
        files.deliver(&shipment).unwrap();
        let resources = || native.resources();
        let before = resources();
        files = native.reopen(files);
        files.deliver(&shipment).unwrap();
        assert!(resources() == before);
        replace_file(&native.path(&modules::file_name(FilterHost::Native, b"module")), b"module").unwrap();
        files = native.reopen(files);
        files.deliver(&shipment).unwrap();
        assert!(resources().iter().zip(&before).all(|(resource, before)| resource != before));
    }

    /// Found by a review: after a flag was dropped, an Envoy still had the other resource.
    #[test]
    fn a_snapshot_file_stays_as_long_as_any_resource_beside_it_names_it() {
        let native = Native::new(false);
        let mut files = native.open(None);
        files.deliver(&native.publish(1, None)).unwrap();
        let other = native.path("other.pb");
        fs::copy(native.path("http.pb"), &other).unwrap();
        let named = native.named("other.pb").unwrap();
        for number in 2..5 {
            files = native.reopen(files);
            files.deliver(&native.publish(number, None)).unwrap();
            assert!(read_named(&named, &other).is_ok());
        }
        fs::remove_file(&other).unwrap();
        files.deliver(&native.publish(5, None)).unwrap();
        assert!(read_named(&named, &other).is_err() && native.snapshots().len() == 2);
    }

    #[test]
    fn what_a_delivery_that_fails_has_left_is_right_after_the_next_one() {
        let native = Native::new(false);
        let mut files = native.open(None);
        files.deliver(&native.publish(1, None)).unwrap();
        let first = native.named("http.pb").unwrap();
        // Nothing can be put in the place of a folder.
        fs::remove_file(native.path("http.pb")).unwrap();
        fs::create_dir(native.path("http.pb")).unwrap();
        for number in [2, 3] {
            assert!(files.deliver(&native.publish(number, None)).is_err());
            let named = native.named("network.pb").unwrap();
            assert!(read_named(&named, &native.path("http.pb")).is_ok() && native.snapshots().len() <= 2);
        }
        fs::remove_dir(native.path("http.pb")).unwrap();
        let shipment = native.publish(1, None);
        files.deliver(&shipment).unwrap();
        assert!(!files.repair(&shipment).unwrap());
        let named = ["http.pb", "network.pb"].map(|name| native.named(name).unwrap());
        assert!(named.iter().all(|file| *file == first && read_named(file, &native.path("http.pb")).is_ok()));
    }

    #[test]
    fn a_large_overlay_and_its_base_have_a_file_each() {
        let native = Native::new(true);
        let mut files = native.open(None);
        files.deliver(&native.publish(1, None)).unwrap();
        let base = native.named("base.pb").unwrap();
        let (mut fold, mut edits) = (large(1), Edits::default());
        let now = LogTime::from_millis(2).unwrap();
        let publisher = Publisher::new("edgefold", 0, Settings::default(), b"module");
        let mut publisher = publisher.with_bases(BaseLimits::default(), files.found_base()).unwrap();
        publisher.publish(&fold, &mut edits, now, now).unwrap();
        apply(&mut fold, &mut edits, (0..30_000).map(|place| Ipv4Addr::from((40 << 24) + 3 * place)));
        let shipment = Arc::clone(publisher.publish(&fold, &mut edits, now, now).unwrap());
        assert!(shipment.is_overlay && shipment.snapshot.len() > MOST_INLINE_BYTES);
        files.deliver(&shipment).unwrap();
        assert!(!files.repair(&shipment).unwrap());
        let overlay = native.named("http.pb").unwrap();
        assert!(native.named("base.pb").as_ref() == Some(&base) && native.snapshots().len() == 2);
        assert!([&base, &overlay].iter().all(|file| read_named(file, &native.path("base.pb")).is_ok()));
        // Only the overlay names the file that is damaged.
        let ids = || ["http.pb", "base.pb"].map(|name| shipment_in(&resource(&native.path(name))).unwrap());
        let before = ids();
        fs::write(&overlay.path, b"something else").unwrap();
        assert!(files.repair(&shipment).unwrap());
        assert!(ids()[0] != before[0] && ids()[1] == before[1], "{:?} after {before:?}", ids());
        // Of two files that are not there, each resource names one.
        let before = ids();
        native.snapshots().iter().for_each(|path| fs::remove_file(path).unwrap());
        files = native.reopen(files);
        files.deliver(&shipment).unwrap();
        assert!(native.snapshots().len() == 2 && ids().iter().zip(&before).all(|(id, before)| id != before));
    }

    #[test]
    fn a_snapshot_file_that_is_missing_or_damaged_is_shipped_again_with_what_names_it() {
        let native = Native::new(true);
        let shipment = native.publish(1, None);
        native.open(None).deliver(&shipment).unwrap();
        let mut files = native.open(None);
        files.deliver(&shipment).unwrap();
        let snapshot = native.snapshots().remove(0);
        let content = shipment.base.as_ref().unwrap().bytes();
        let hour = std::time::Duration::from_secs(3600);
        let ids = || ["http.pb", "base.pb"].map(|name| shipment_in(&resource(&native.path(name))).unwrap());
        let damages: [&dyn Fn(); 3] = [
            &|| fs::remove_file(&snapshot).unwrap(),
            &|| fs::write(&snapshot, b"something else").unwrap(),
            // Found by a review: it was killed after it had written the file again, and Envoy had refused the resource before. Its clock had
            // been set back, too.
            &|| {
                replace_file(&snapshot, content).unwrap();
                File::open(&snapshot).unwrap().set_modified(std::time::SystemTime::now() - hour).unwrap();
            },
        ];
        for damage in damages {
            for restarts in [false, true] {
                let before = ids();
                assert!(!files.repair(&shipment).unwrap());
                damage();
                if restarts {
                    files = native.reopen(files);
                    files.deliver(&shipment).unwrap();
                } else {
                    assert!(files.repair(&shipment).unwrap());
                }
                assert!(fs::read(&snapshot).unwrap() == *content);
                assert!(ids()[0] == before[0] && ids()[1] != before[1], "Envoy may have refused {before:?}");
            }
        }
        assert!(!files.repair(&shipment).unwrap());
    }

    /// So that an Envoy that starts in the middle finds a base and an overlay over it, or a whole snapshot.
    #[test]
    fn a_base_is_written_before_an_overlay_over_it_and_after_a_whole_snapshot() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let files =
            Files::new(Some(path("http.pb")), Some(path("network.pb")), FilterHost::Wasm(FailurePolicy::Reload))
                .unwrap();
        let files = files.with_base(path("base.pb")).and_then(|files| files.with_module(None, b"module")).unwrap();
        let order = |shipment: &Shipment| -> Vec<Content> {
            files.in_order(shipment).into_iter().map(|at| files.places[at].content).collect()
        };
        let [base, network, http] = [FilterKind::Base, FilterKind::Network, FilterKind::Http].map(Content::Resource);
        assert_eq!(order(&pair(1, None)), [Content::Module, base, network, http]);
        let whole = Shipment { is_overlay: false, ..(*pair(1, None)).clone() };
        assert_eq!(order(&whole), [Content::Module, network, http, base]);
    }

    #[test]
    fn of_two_processes_the_second_is_refused_and_what_a_killed_one_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edgefold.pb");
        let open = || Files::new(Some(path.clone()), None, FilterHost::Wasm(FailurePolicy::Reload));
        let left = stage(&path, b"half").unwrap().into_temp_path().keep().unwrap();
        let mut first = open().unwrap();
        assert!(!left.exists());
        let error = open().unwrap_err();
        assert!(matches!(&error, ShipError::Locked { path: locked } if *locked == path), "{error}");
        let missing = directory.path().join("missing/edgefold.pb");
        let error = Files::new(Some(missing), None, FilterHost::Wasm(FailurePolicy::Reload)).unwrap_err();
        assert!(error.to_string().ends_with("/missing: the folder does not exist: create it first"), "{error}");
        first.deliver(&shipment(1)).unwrap();
        drop(first);
        open().unwrap();
        assert_eq!(listed(directory.path()), (vec!["edgefold.pb".to_owned()], 1), "the lock stays");
    }
}
