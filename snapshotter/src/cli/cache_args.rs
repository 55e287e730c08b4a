//! `--cache`: where checkpoints of the fold are kept.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use edgefold::{Checkpoints, LogUrl};
use sha2::{Digest, Sha256};

use super::log_args::LogArgs;

/// The name of the program's folder among those of others.
const FOLDER: &str = "edgefold";
/// How many bytes of a hash name a log.
const NAME_BYTES: usize = 16;

/// Where the checkpoints are.
#[derive(Args, Debug)]
#[command(next_help_heading = "Time machine")]
pub(super) struct CacheArgs {
    /// Keep checkpoints of the log in this folder, so that only the first look at an earlier moment reads the whole log. It takes at most
    /// 1.3 GB for each log, and can be deleted at any time. If it is empty, nothing is kept [default: edgefold in $XDG_CACHE_HOME or
    /// ~/.cache]
    #[arg(long, value_name = "FOLDER", env = "EDGEFOLD_CACHE", hide_env_values = true)]
    cache: Option<OsString>,
}

impl CacheArgs {
    /// The checkpoints of a log. Without a folder they are in memory.
    pub(super) fn checkpoints(&self, log: &LogArgs) -> Checkpoints {
        self.kept_checkpoints(log).unwrap_or_else(Checkpoints::in_memory)
    }

    /// The checkpoints of a log in the folder, if there is one.
    pub(super) fn kept_checkpoints(&self, log: &LogArgs) -> Option<Checkpoints> {
        let folder = match &self.cache {
            Some(folder) => Some(PathBuf::from(folder)).filter(|folder| !folder.as_os_str().is_empty()),
            None => default_folder(),
        };
        Some(Checkpoints::in_folder(&folder?.join(name(log.url()))))
    }
}

fn default_folder() -> Option<PathBuf> {
    // The XDG Base Directory Specification: a path that is not absolute is ignored.
    let absolute = |variable: &str| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(caches?.join(FOLDER))
}

/// The name of a log's folder. Of two logs that get the same name, each throws the checkpoints of the other away.
fn name(log: &LogUrl) -> String {
    let url = match log {
        LogUrl::Sqlite(path) => {
            let path = path.canonicalize().or_else(|_| std::path::absolute(path));
            format!("sqlite:{}", path.as_deref().unwrap_or(Path::new("")).display())
        }
        LogUrl::Kafka { brokers, prefix } => format!("kafka://{brokers}/{prefix}"),
    };
    Sha256::digest(url).iter().take(NAME_BYTES).map(|byte| format!("{byte:02x}")).collect()
}
