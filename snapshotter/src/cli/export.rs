//! `edgefold export`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use edgefold::{Block, Fold, List, ListAction, ListKind, ListName, LogTime, Share, Until};
use edgefold_formats::{Format, WriteOptions, write};
use tracing::warn;

use super::feed::format_parser;
use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::{CliError, output};
use crate::answers::refused::refused_by;
use crate::replace::replace_file;

const EXAMPLES: &str = "\
Examples:
  edgefold export --format nftables | sudo nft -f -
  edgefold export --format nginx-deny -o /etc/nginx/blocked.conf
  edgefold export --format csv --list tor-exits
  edgefold export --format cidr --as-of 2026-11-22T17:00:00Z

Without --list, what is exported is what is refused: the ranges of all lists that refuse, without what a list exempts.";

/// Write ranges in the format of another program: a firewall, a proxy or a database
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ExportArgs {
    /// The format. docs/lists.md describes each
    #[arg(long, value_name = "FORMAT", value_parser = format_parser(Format::is_written))]
    format: Format,
    /// Only this list, whatever it does [default: what is refused]
    #[arg(long, value_name = "NAME")]
    list: Option<ListName>,
    /// The file to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What the set, map or variable in the file is called, in formats that name it [default: edgefold, or the list]
    #[arg(long, value_name = "NAME")]
    name: Option<ListName>,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl ExportArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(&self.log)?;
        let list = match &self.list {
            Some(name) => output::list(&fold, name)?.clone(),
            None => {
                warn_of_shares(&fold);
                refused_by(&fold, time, |share| share == Share::ALL)
            }
        };
        if !self.format.says_ends() && list.next_expiry(time).is_some() {
            warn!("{} cannot say when a range ends: export again when one has", self.format);
        }
        if let Some(end) = self.first_end_of_exemption(&fold, time) {
            warn!("some of what would be refused is exempt until {end}: export again then");
        }
        let name = self.name.or(self.list).map_or("edgefold".to_owned(), |name| name.to_string());
        let options = WriteOptions { now: time, name };
        // Where ends cannot be said, ranges that touch are one.
        let mut blocks: Box<dyn Iterator<Item = Block>> = if self.format.says_ends() {
            Box::new(list.blocks())
        } else {
            Box::new(list.ranges_at(time).map(|range| Block { range, until: Until::FOREVER }))
        };
        let mut export = |out: &mut dyn Write| write(self.format, &mut *blocks, &options, out);
        match &self.output {
            None => output::print(export)?,
            Some(path) if is_a_format(path) => {
                return Err(CliError::Usage(format!(
                    "-o is the file to write, and --format says what: for a file of that name, write ./{}",
                    path.display()
                )));
            }
            // A device or a pipe cannot be replaced.
            Some(path) if path.exists() && !path.is_file() => {
                let mut file = OpenOptions::new().write(true).open(path).map_err(CliError::file(path))?;
                export(&mut file).map_err(CliError::file(path))?;
            }
            Some(path) => {
                let mut bytes = Vec::new();
                // Replaced as a whole, so that nobody reads half of it. Of a link, that is the file that it leads to.
                let target = path.canonicalize().unwrap_or_else(|_| path.clone());
                export(&mut bytes).and_then(|()| replace_file(&target, &bytes)).map_err(CliError::file(path))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// When the first exemption ends that takes something off what is exported.
    fn first_end_of_exemption(&self, fold: &Fold, time: LogTime) -> Option<LogTime> {
        let (exempting, refusing): (Vec<&List>, Vec<&List>) = fold
            .lists()
            .iter()
            .filter(|list| self.list.is_none() && matches!(list.action().kind(), ListKind::Exempt | ListKind::Deny))
            .partition(|list| list.action().kind() == ListKind::Exempt);
        let blocks = exempting.into_iter().flat_map(List::blocks).filter(|block| block.until.holds_at(time));
        let takes = |block: &Block| refusing.iter().any(|list| !list.ranges_within(block.range, time).is_empty());
        blocks.filter(|block| block.until.time().is_some()).filter(takes).filter_map(|block| block.until.time()).min()
    }
}

/// Whether somebody meant the format of the output, which -o is everywhere else.
fn is_a_format(path: &Path) -> bool {
    ["human", "raw", "json"].iter().any(|format| path == Path::new(format))
}

/// Says which lists refuse, and are not exported.
fn warn_of_shares(fold: &Fold) {
    for list in fold.lists() {
        if let ListAction::Deny { share, .. } = list.action()
            && *share != Share::ALL
        {
            warn!("list {} is left out: it refuses {share} of the clients, which no range can say", list.name());
        }
    }
}
