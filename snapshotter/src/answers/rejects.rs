//! What is wrong with the records that every reader skips, and with commands whose key is not a time.

use edgefold::{MAX_COMMAND_BYTES, Record, Reject};
use edgefold_table::shorten;
use serde_json::{Value, json};

/// What is wrong with a record, if anything.
pub(crate) fn complaint(record: &Record, reject: Option<&Reject>) -> Option<String> {
    match reject {
        Some(reject) => Some(reject.to_string()),
        None if record.has_other_key() => {
            let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
            Some(format!("not rejected, but its key {:?} is not a time: its timestamp is used", shorten(&key)))
        }
        None => None,
    }
}

/// As much of the value as a command may have: whoever wrote it may have chosen any length.
pub(crate) fn text(record: &Record) -> String {
    let value = record.value.as_deref().unwrap_or_default();
    String::from_utf8_lossy(&value[..value.len().min(MAX_COMMAND_BYTES)]).into_owned()
}

/// `offset`, `time`, `text`, `reason` and `rejected`. The reason is the [`complaint`]; a record that is not rejected has another key than a
/// time.
pub(crate) fn reject_json(record: &Record, rejected: bool, reason: &str) -> Value {
    let time = record.time().map(|time| time.to_string());
    json!({ "offset": record.offset, "time": time, "text": text(record), "reason": reason, "rejected": rejected })
}
