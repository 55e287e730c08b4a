//! The embedded log: a SQLite database, for a first try, for tests, and for a single machine. Several processes may append and
//! follow at the same time.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};

use super::{Batch, CommandReader, EachRecord, Log, NewCommand, Progress, ViewReader, ViewRecord, ViewWriter};
use crate::clock::now;
use crate::view::OFFSET_KEY;
use crate::{Error, LogTime, Position, Record, RecordHash};

/// "edge" in ASCII. It tells a log from another program's database.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"edge");
const SCHEMA: &str = "
    CREATE TABLE commands (offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, key BLOB, value BLOB) STRICT;
    CREATE TABLE ranges (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";
/// How long to wait while another process writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to look for new commands: SQLite does not announce commits, and looking costs a few microseconds.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const BATCH_RECORDS: usize = 10_000;

/// A log in a database file.
#[derive(Clone, Debug)]
pub struct SqliteLog {
    path: PathBuf,
}

impl SqliteLog {
    /// The log in the file at `path`, which [`Log::init`] creates.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    fn open(&self) -> Result<Connection, Error> {
        if !self.path.exists() {
            return Err(Error::Missing(self.path.display().to_string()));
        }
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let id: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed(&self.path))?;
        if id != APPLICATION_ID {
            return Err(Error::Settings(vec![format!(
                "{} is a database, but not an edgefold log",
                self.path.display()
            )]));
        }
        Ok(connection)
    }

    fn connect(&self, flags: OpenFlags) -> Result<Connection, Error> {
        let connect = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // An acknowledged command survives a power cut.
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok(connection)
        };
        connect().map_err(failed(&self.path))
    }
}

impl Log for SqliteLog {
    fn init(&self) -> Result<Vec<String>, Error> {
        let mut connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        let mut create = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let tables: i64 = transaction.query_one("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables == 0 {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            }
            transaction.commit()?;
            Ok(tables == 0)
        };
        let created = create().map_err(failed(&self.path))?;
        // Refuses another program's database before anything in it is changed.
        let connection = self.open()?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed(&self.path))?;
        let path = self.path.display();
        Ok(vec![if created { format!("created {path}") } else { format!("{path} exists already") }])
    }

    fn check(&self) -> Result<Vec<String>, Error> {
        self.open().map(|_| Vec::new())
    }

    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, Error> {
        let mut connection = self.open()?;
        let mut append = || {
            // An immediate transaction excludes other writers from its first statement on: no command gets in between.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let next = end(&transaction)?;
            let mut offsets = Vec::with_capacity(commands.len());
            for (offset, NewCommand { time, text }) in (next..).zip(commands) {
                transaction.prepare_cached("INSERT INTO commands VALUES (?, ?, ?, ?)")?.execute(params![
                    offset,
                    now().millis(),
                    time.to_string().as_bytes(),
                    text.as_bytes()
                ])?;
                offsets.push(offset);
            }
            transaction.commit()?;
            Ok(offsets)
        };
        append().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
            // It may have reached the disk nevertheless.
            Some(ErrorCode::SystemIoFailure) => Error::Unacknowledged(error.to_string()),
            _ => failed(&self.path)(error),
        })
    }

    fn commands(&self, from: Position) -> Result<Box<dyn CommandReader>, Error> {
        let inode = inode(&self.path)?;
        let connection = self.open()?;
        let end = end(&connection).map_err(failed(&self.path))?;
        let Position { next_offset: next, last_record, .. } = from;
        if end < next {
            return Err(Error::Gone { needed: next, found: format!("none after offset {}", end.saturating_sub(1)) });
        }
        let path = self.path.clone();
        Ok(Box::new(SqliteCommandReader { path, inode, connection, next, last_record, end, seen: None }))
    }

    fn view(&self) -> Result<Box<dyn ViewReader>, Error> {
        let connection = self.open()?;
        let total = connection.query_one("SELECT count(*) FROM ranges", [], |row| row.get(0));
        let progress = Progress { done: 0, total: total.map_err(failed(&self.path))? };
        let epoch = epoch(&connection).map_err(failed(&self.path))?;
        Ok(Box::new(SqliteViewReader { path: self.path.clone(), connection, seen: None, epoch, progress }))
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, Error> {
        let mut connection = self.open()?;
        let mut take = || {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let epoch = epoch(&transaction)?.wrapping_add(1);
            transaction.pragma_update(None, "user_version", epoch)?;
            transaction.commit()?;
            Ok(epoch)
        };
        let epoch = take().map_err(failed(&self.path))?;
        Ok(Box::new(SqliteViewWriter { path: self.path.clone(), connection, epoch }))
    }
}

/// The number of writers that the view has had: only the last one may write.
fn epoch(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The offset that the next command will get.
fn end(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_one("SELECT coalesce(max(offset) + 1, 0) FROM commands", [], |row| row.get(0))
}

/// Identifies the file at `path`, as long as somebody has it open: its device and its inode there.
fn inode(path: &Path) -> Result<(u64, u64), Error> {
    std::fs::metadata(path).map(|file| (file.dev(), file.ino())).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::Missing(path.display().to_string()),
        _ => Error::Io { path: path.to_owned(), source: error },
    })
}

struct SqliteCommandReader {
    path: PathBuf,
    /// That of the file when it was opened.
    inode: (u64, u64),
    connection: Connection,
    next: u64,
    /// The hash of the record before `next`, if it is known.
    last_record: Option<RecordHash>,
    end: u64,
    /// SQLite's data version when there was nothing more to read. While it stays the same, there still is not.
    seen: Option<i64>,
}

impl CommandReader for SqliteCommandReader {
    fn read(&mut self, timeout: Duration) -> Result<Batch, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let asked = Instant::now();
            let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
            let version = Some(version.map_err(failed(&self.path))?);
            if version != self.seen {
                let mut records = self.query().map_err(failed(&self.path))?;
                let at_end = records.len() < BATCH_RECORDS;
                self.prove(&mut records)?;
                // The first read returns at once to say that there is nothing more. Later ones wait until there is.
                let first_look = self.seen.is_none();
                if at_end {
                    self.seen = version;
                }
                for record in &records {
                    if record.offset != self.next {
                        return Err(Error::Gone { needed: self.next, found: format!("offset {} next", record.offset) });
                    }
                    self.next += 1;
                }
                self.last_record = records.last().map(Record::hash).or(self.last_record);
                if !records.is_empty() || first_look {
                    let end = at_end.then_some(self.next);
                    return Ok(Batch { records, at_end, contact: at_end.then_some(asked), end, trouble: None });
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // A file that was deleted never changes again for those who have it open.
                if inode(&self.path)? != self.inode {
                    return Err(Error::OtherLog { offset: self.next.saturating_sub(1) });
                }
                return Ok(Batch { at_end: true, contact: Some(asked), end: Some(self.next), ..Batch::default() });
            }
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }

    fn end(&self) -> u64 {
        self.end
    }
}

impl SqliteCommandReader {
    /// Takes the record before `next` from the front of `records`, if it is known, and compares it.
    fn prove(&self, records: &mut Vec<Record>) -> Result<(), Error> {
        let Some((offset, hash)) = self.next.checked_sub(1).zip(self.last_record) else { return Ok(()) };
        if records.first().is_none_or(|record| record.hash() != hash) {
            return Err(Error::OtherLog { offset });
        }
        records.remove(0);
        Ok(())
    }

    /// The next records, after the one before `next` if that is known.
    fn query(&self) -> rusqlite::Result<Vec<Record>> {
        let sql = "SELECT offset, timestamp, key, value FROM commands WHERE offset >= ? ORDER BY offset LIMIT ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows =
            statement.query_map(params![self.next - u64::from(self.last_record.is_some()), BATCH_RECORDS], |row| {
                let timestamp = row.get::<_, i64>(1)?;
                Ok(Record {
                    offset: row.get(0)?,
                    timestamp: u64::try_from(timestamp).ok().and_then(LogTime::from_millis),
                    key: row.get(2)?,
                    value: row.get(3)?,
                })
            })?;
        rows.collect()
    }
}

struct SqliteViewReader {
    path: PathBuf,
    connection: Connection,
    /// SQLite's data version when the view was last read.
    seen: Option<i64>,
    /// The number of writers that the view has had, when it was last read.
    epoch: i32,
    progress: Progress,
}

impl ViewReader for SqliteViewReader {
    fn read(&mut self, timeout: Duration, each: &mut EachRecord<'_>) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout;
        loop {
            let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
            let version = Some(version.map_err(failed(&self.path))?);
            if version != self.seen {
                // Everything at first, later only how far the view has come. One statement sees one state.
                self.query(self.seen.is_some(), each).map_err(failed(&self.path))?;
                let epoch = epoch(&self.connection).map_err(failed(&self.path))?;
                self.progress.done += u64::from(std::mem::replace(&mut self.epoch, epoch) != epoch);
                self.seen = version;
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(true);
            }
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }

    fn progress(&self) -> Progress {
        self.progress
    }
}

impl SqliteViewReader {
    fn query(&mut self, only_offset: bool, each: &mut EachRecord<'_>) -> rusqlite::Result<()> {
        let all = "SELECT key, value FROM ranges";
        let mut statement = match only_offset {
            true => self.connection.prepare_cached(&format!("{all} WHERE key = '{OFFSET_KEY}'"))?,
            false => self.connection.prepare_cached(all)?,
        };
        let mut rows = statement.query([])?;
        self.progress.done = self.progress.done.max(self.progress.total);
        while let Some(row) = rows.next()? {
            each(Some(row.get_ref(0)?.as_bytes()?), Some(row.get_ref(1)?.as_bytes()?));
        }
        Ok(())
    }
}

struct SqliteViewWriter {
    path: PathBuf,
    connection: Connection,
    epoch: i32,
}

impl ViewWriter for SqliteViewWriter {
    /// What is committed is visible at once.
    fn fence(&self) -> u64 {
        0
    }

    fn write(&mut self, records: &mut dyn Iterator<Item = ViewRecord>) -> Result<(), Error> {
        let mut write = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if epoch(&transaction)? != self.epoch {
                return Ok(false);
            }
            for (key, value) in &mut *records {
                // SQLite keeps keys as text.
                let key = String::from_utf8_lossy(&key);
                match value {
                    Some(value) => transaction
                        .prepare_cached("INSERT OR REPLACE INTO ranges VALUES (?, ?)")?
                        .execute(params![key, value])?,
                    None => transaction.prepare_cached("DELETE FROM ranges WHERE key = ?")?.execute([key])?,
                };
            }
            transaction.commit()?;
            Ok(true)
        };
        if write().map_err(failed(&self.path))? { Ok(()) } else { Err(Error::Fenced) }
    }
}

fn failed(path: &Path) -> impl FnOnce(rusqlite::Error) -> Error {
    let path = path.to_owned();
    |source| Error::Sqlite { path, source: Box::new(source) }
}
