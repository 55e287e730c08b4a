//! The clocks. Nothing else in the library reads the wall clock.

use std::time::{Instant, SystemTime};

use crate::{LogTime, Now};

/// The current time.
pub fn now() -> LogTime {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).ok().and_then(LogTime::from_millis).unwrap_or(LogTime::LAST)
}

/// Both clocks.
pub fn clocks() -> Now {
    Now { instant: Instant::now(), time: now() }
}
