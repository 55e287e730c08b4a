//! The wall clock. Nothing else in the library reads it.

use std::time::SystemTime;

use crate::LogTime;

/// The current time.
pub fn now() -> LogTime {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).ok().and_then(LogTime::from_millis).unwrap_or(LogTime::LAST)
}
