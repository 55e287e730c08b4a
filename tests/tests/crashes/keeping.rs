//! A writer of the view in this process, which the tests step by hand.

use std::time::Duration;

use edgefold::view::records;
use edgefold::{Edits, Fold, Log, Record, ViewWriter};
use edgefold_tests::eventually;

/// Writes the view, one transaction for each command, and counts the records that it writes.
pub(crate) struct Keeping<'a> {
    log: &'a dyn Log,
    writer: Box<dyn ViewWriter>,
    /// What the view contains.
    pub(crate) fold: Fold,
    /// How many records were written.
    pub(crate) written: usize,
}

impl<'a> Keeping<'a> {
    pub(crate) fn start(log: &'a dyn Log) -> Self {
        Self { log, writer: log.view_writer().unwrap(), fold: Fold::default(), written: 0 }
    }

    /// Brings the view to the end of the commands.
    pub(crate) fn catch_up(&mut self) {
        let mut commands: Vec<Record> = Vec::new();
        let mut reader = self.log.commands(self.fold.position()).unwrap();
        eventually("the end of the commands", || {
            let batch = reader.read(Duration::from_secs(1)).unwrap();
            commands.extend(batch.records);
            batch.at_end.then_some(())
        });
        for command in commands {
            let mut edits = Edits::default();
            let _rejected = self.fold.apply(&command, &mut edits);
            self.writer.write(&mut records(&edits, &self.fold).inspect(|_| self.written += 1)).unwrap();
        }
    }
}
