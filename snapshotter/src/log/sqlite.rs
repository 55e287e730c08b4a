//! The embedded log: one SQLite database, for a first try, for tests and for one machine. Several processes may append and
//! follow at once.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{Batch, CommandReader, EachRecord, Log, LogError, NewCommand, ViewWriter};
use crate::clock::now;
use crate::edits::Edits;
use crate::fold::Position;
use crate::record::Record;
use crate::time::LogTime;
use crate::view::{OFFSET_KEY, records};

/// "edge" in ASCII, so that another program's database is not taken for a log.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"edge");
const SCHEMA: &str = "
    CREATE TABLE commands (offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, key BLOB, value BLOB) STRICT;
    CREATE TABLE ranges (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";
/// How long to wait for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to look for new commands: SQLite tells nobody of a commit, and looking costs some microseconds.
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

    fn open(&self) -> Result<Connection, LogError> {
        if !self.path.exists() {
            return Err(LogError::Missing(self.path.display().to_string()));
        }
        let connection = self.connect(OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let id: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed(&self.path))?;
        if id != APPLICATION_ID {
            return Err(LogError::Settings(vec![format!(
                "{} is a database, but no edgefold log",
                self.path.display()
            )]));
        }
        Ok(connection)
    }

    fn connect(&self, flags: OpenFlags) -> Result<Connection, LogError> {
        let connect = || {
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            // A command that was acknowledged survives a power cut.
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok(connection)
        };
        connect().map_err(failed(&self.path))
    }
}

impl Log for SqliteLog {
    fn init(&self) -> Result<Vec<String>, LogError> {
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
        // Refuses another program's database before anything of it is changed.
        let connection = self.open()?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed(&self.path))?;
        let path = self.path.display();
        Ok(vec![if created { format!("created {path}") } else { format!("{path} is there already") }])
    }

    fn append(&self, commands: &[NewCommand]) -> Result<Vec<u64>, LogError> {
        let mut connection = self.open()?;
        let mut append = || {
            // One writer at a time from its first statement on: no other command gets in between.
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
        append().map_err(failed(&self.path))
    }

    fn commands(&self, from: u64) -> Result<Box<dyn CommandReader>, LogError> {
        let connection = self.open()?;
        let end = end(&connection).map_err(failed(&self.path))?;
        if end < from {
            return Err(LogError::Gone { needed: from, found: format!("none after offset {}", end.saturating_sub(1)) });
        }
        Ok(Box::new(Reader { path: self.path.clone(), connection, next: from, seen: None }))
    }

    fn read_view(&self, each: &mut EachRecord<'_>) -> Result<(), LogError> {
        let connection = self.open()?;
        let mut read = || {
            // One statement sees one state of the database.
            let mut statement = connection.prepare("SELECT key, value FROM ranges")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(Some(row.get_ref(0)?.as_bytes()?), Some(row.get_ref(1)?.as_bytes()?));
            }
            Ok(())
        };
        read().map_err(failed(&self.path))
    }

    fn view_writer(&self) -> Result<Box<dyn ViewWriter>, LogError> {
        Ok(Box::new(Writer { path: self.path.clone(), connection: self.open()? }))
    }
}

/// The offset that the next command gets.
fn end(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_one("SELECT coalesce(max(offset) + 1, 0) FROM commands", [], |row| row.get(0))
}

struct Reader {
    path: PathBuf,
    connection: Connection,
    next: u64,
    /// SQLite's data version when there was nothing to read: while it stays, there still is not.
    seen: Option<i64>,
}

impl CommandReader for Reader {
    fn read(&mut self, timeout: Duration) -> Result<Batch, LogError> {
        let deadline = Instant::now() + timeout;
        loop {
            let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
            let version = Some(version.map_err(failed(&self.path))?);
            if version != self.seen {
                let records = self.query().map_err(failed(&self.path))?;
                let at_end = records.len() < BATCH_RECORDS;
                // Who has just come wants to know that there is nothing more; who follows, when there is.
                let first_look = self.seen.is_none();
                if at_end {
                    self.seen = version;
                }
                for record in &records {
                    if record.offset != self.next {
                        return Err(LogError::Gone {
                            needed: self.next,
                            found: format!("offset {} next", record.offset),
                        });
                    }
                    self.next += 1;
                }
                if !records.is_empty() || first_look {
                    return Ok(Batch { records, at_end });
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Batch { records: Vec::new(), at_end: true });
            }
            std::thread::sleep(left.min(POLL_INTERVAL));
        }
    }
}

impl Reader {
    fn query(&self) -> rusqlite::Result<Vec<Record>> {
        let sql = "SELECT offset, timestamp, key, value FROM commands WHERE offset >= ? ORDER BY offset LIMIT ?";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![self.next, BATCH_RECORDS], |row| {
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

struct Writer {
    path: PathBuf,
    connection: Connection,
}

impl ViewWriter for Writer {
    fn write(&mut self, edits: &Edits, from: Position, to: Position) -> Result<(), LogError> {
        let mut write = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // The edits lead from `from` on. If the view is elsewhere, another one has written it.
            if stored_offset(&transaction)? != from.next_offset {
                return Ok(false);
            }
            for (key, value) in records(edits, to) {
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
        if write().map_err(failed(&self.path))? { Ok(()) } else { Err(LogError::Fenced) }
    }
}

fn stored_offset(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let value = transaction.query_row("SELECT value FROM ranges WHERE key = ?", [OFFSET_KEY], |row| row.get(0));
    let value: Option<String> = value.optional()?;
    Ok(value.and_then(|value| value.split_once(' ')?.0.parse().ok()).unwrap_or(0))
}

fn failed(path: &Path) -> impl FnOnce(rusqlite::Error) -> LogError {
    let path = path.to_owned();
    |source| LogError::Sqlite { path, source: Box::new(source) }
}
