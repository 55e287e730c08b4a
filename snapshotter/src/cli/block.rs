//! `edgefold block` and `edgefold add`

use std::process::ExitCode;

use clap::Args;
use edgefold::{Action, ListName};
use tracing::warn;

use super::CliError;
use super::append::{APPENDS, AppendArgs, TermArgs};
use super::log_args::LogArgs;
use super::ranges_args::RangesArgs;
use crate::answers::guard::is_new;

const BLOCK_EXAMPLES: &str = "\
Examples:
  edgefold block 10.0.0.0/24 2001:db8::/48 --ttl 4h --origin waf --reason \"credential stuffing\"
  edgefold block 192.0.2.10-192.0.2.40
  edgefold block 192.0.2.1 --until 2026-12-01T00:00:00Z
  edgefold block 198.51.0.0/16 --dry-run
  grep ' 401 ' access.log | cut -d' ' -f1 | sort -u | edgefold block - --ttl 1h --reason \"many 401\"
";

const ADD_EXAMPLES: &str = "\
Examples:
  edgefold lists set monitoring --action exempt
  edgefold add 192.0.2.7 --list monitoring --reason \"our probes\"
  edgefold add 198.51.100.0/24 --list tor-exits --ttl 2d
";

/// Block ranges: append BLACKLIST commands to the log
#[derive(Args, Debug)]
#[command(after_help = format!("{BLOCK_EXAMPLES}\n{APPENDS}"))]
pub(super) struct BlockArgs {
    /// The list to put them on
    #[arg(long, value_name = "NAME", default_value_t = ListName::DEFAULT)]
    list: ListName,
    #[command(flatten)]
    put: PutArgs,
}

/// Add ranges to a list: the same as `block`, but --list is required. A new list refuses until `lists set` says what it does
#[derive(Args, Debug)]
#[command(after_help = format!("{ADD_EXAMPLES}\n{APPENDS}"))]
pub(super) struct AddArgs {
    /// The list to put them on
    #[arg(long, value_name = "NAME")]
    list: ListName,
    #[command(flatten)]
    put: PutArgs,
}

#[derive(Args, Debug)]
struct PutArgs {
    #[command(flatten)]
    ranges: RangesArgs,
    #[command(flatten)]
    term: TermArgs,
    #[command(flatten)]
    append: AppendArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl BlockArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        self.put.run(self.list)
    }
}

impl AddArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        self.put.run(self.list)
    }
}

impl PutArgs {
    fn run(&self, list: ListName) -> Result<ExitCode, CliError> {
        let time = self.append.time()?;
        let term = self.term.term(time)?;
        let ranges = self.ranges.ranges()?;
        let log = self.log.open()?;
        let before = self.append.state(&*log, &list)?;
        let actions: Vec<Action> = ranges.into_iter().map(|range| Action::Blacklist { list, range, term }).collect();
        let status = self.append.append(&*log, before.as_ref(), &actions, time)?;
        if is_new(before.as_ref(), &list) && !self.append.dry_run {
            warn!(
                "list {list} is new, and refuses: if that is not what you want, say what it does with `edgefold lists set {list} --action \
                 ...`, or remove it with `edgefold lists drop {list}`"
            );
        }
        Ok(status)
    }
}
