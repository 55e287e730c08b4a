//! `edgefold lists`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use edgefold::{Action, List, ListAction, ListActionText, ListName, LogTime, Refusal, Share};
use edgefold_snapshot::ListKind;
use serde_json::json;
use tracing::warn;

use super::CliError;
use super::append::{APPENDS, AppendArgs};
use super::log_args::LogArgs;
use super::moment_args::MomentArgs;
use super::output::{self, Format};
use super::settings_args::{header, named};
use crate::addresses::Addresses;
use crate::answers::words;

const EXAMPLES: &str = "\
Examples:
  edgefold lists
  edgefold lists set monitoring --action exempt --reason \"never block our probes\"
  edgefold lists set new-feed --action deny --share 10%
  edgefold lists set abuse --action deny --status 429 --header \"retry-after: 60\"
  edgefold remove 0.0.0.0/0 ::/0 --list new-feed       # empties it, and keeps what it does
  edgefold lists drop new-feed";

const SET_EXAMPLES: &str = "\
Examples:
  edgefold lists set monitoring --action exempt --reason \"never block our probes\"
  edgefold lists set new-feed --action deny --share 10%
  edgefold lists set default --action shadow --reason \"stop blocking at once\"
";

const DROP_EXAMPLES: &str = "\
Examples:
  edgefold lists drop new-feed --dry-run
";

/// Print the lists and what they do, or change what a list does
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct ListsArgs {
    #[command(subcommand)]
    subcommand: Option<ListsSubcommand>,
    #[command(flatten)]
    print: PrintArgs,
}

#[derive(Debug, Subcommand)]
enum ListsSubcommand {
    Set(SetArgs),
    Drop(DropArgs),
}

#[derive(Args, Debug)]
struct PrintArgs {
    /// The output format; raw is NAME<TAB>WHAT IT DOES<TAB>RANGES<TAB>IPV4 ADDRESSES<TAB>IPV6 ADDRESSES<TAB>NEXT EXPIRY, where -
    /// stands for none
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    moment: MomentArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Say what a list does: append a LIST command to the log. What was said before is replaced
#[derive(Args, Debug)]
#[command(after_help = format!("{SET_EXAMPLES}\n{APPENDS}"))]
struct SetArgs {
    /// The list, which is created if it does not exist
    #[arg(value_name = "NAME")]
    list: ListName,
    /// Refuse clients on it (deny), let them pass and report them (shadow), let them pass whatever other lists say (exempt), or let
    /// them pass and tell the upstream (tag)
    #[arg(long, ignore_case = true, value_parser = named::<ListKind>())]
    action: ListKind,
    /// With deny: refuse only this share of the clients, as in 25% [default: 100%]
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    share: Option<Share>,
    /// With deny: the status of a refusal by this list [default: 403 if anything else of the refusal is given, otherwise the whole
    /// refusal is as `serve` says]
    #[arg(long, value_name = "STATUS")]
    status: Option<u16>,
    /// With deny: the body of a refusal by this list, on one line [default: Forbidden]
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// With deny: the content type of that body [default: text/plain]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// With deny: a header of a refusal by this list; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    append: AppendArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// Remove a list with all ranges on it: append an UNLIST command to the log
#[derive(Args, Debug)]
#[command(after_help = format!("{DROP_EXAMPLES}\n{APPENDS}"))]
struct DropArgs {
    /// The list, which is not the default list
    #[arg(value_name = "NAME", value_parser = droppable)]
    list: ListName,
    #[command(flatten)]
    append: AppendArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn droppable(text: &str) -> Result<ListName, String> {
    let name: ListName = text.parse().map_err(|error: edgefold::ListNameError| error.to_string())?;
    if name.is_default() {
        return Err("it always exists: take ranges off it with `edgefold allow`".to_owned());
    }
    Ok(name)
}

impl ListsArgs {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        match self.subcommand {
            None => self.print.run(),
            Some(ListsSubcommand::Set(args)) => args.run(),
            Some(ListsSubcommand::Drop(args)) => args.run(),
        }
    }
}

impl PrintArgs {
    fn run(&self) -> Result<ExitCode, CliError> {
        let (fold, time) = self.moment.load(&self.log)?;
        let rows: Vec<Row<'_>> = fold.lists().iter().map(|list| Row::new(list, time)).collect();
        let expiry = |row: &Row<'_>| row.next_expiry.map_or("-".to_owned(), |time| time.to_string());
        output::print(|out| {
            match self.output {
                Format::Human => {
                    let width = rows.iter().map(|row| row.name.as_str().len()).max().unwrap_or(0);
                    rows.iter().try_for_each(|row| {
                        let Row { name, does, ranges, ipv4_addresses, ipv6_addresses, .. } = row;
                        let ranges = words::count(*ranges, "range");
                        let addresses = match (*ipv4_addresses, *ipv6_addresses) {
                            (0, 0) => String::new(),
                            (v4, 0) => format!(", {}", words::count(v4, "IPv4 address")),
                            (0, v6) => format!(", {}", words::count(v6, "IPv6 address")),
                            (v4, v6) => {
                                format!(", {} IPv4 and {}", words::number(v4), words::count(v6, "IPv6 address"))
                            }
                        };
                        let next = row
                            .next_expiry
                            .map(|time| format!(", the first ends at {}", words::time(time)))
                            .unwrap_or_default();
                        writeln!(out, "{:<width$}  {does}  {ranges}{addresses}{next}", name.as_str())
                    })
                }
                Format::Raw => rows.iter().try_for_each(|row| {
                    let Row { name, does, ranges, ipv4_addresses, ipv6_addresses, .. } = row;
                    writeln!(out, "{name}\t{does}\t{ranges}\t{ipv4_addresses}\t{ipv6_addresses}\t{}", expiry(row))
                }),
                Format::Json => output::json_array(
                    out,
                    rows.iter().map(|row| {
                        let share = if let ListAction::Deny { share, .. } = row.action {
                            Some(share.to_string())
                        } else {
                            None
                        };
                        json!({
                            "name": row.name.as_str(),
                            "action": row.action.name(),
                            "share": share,
                            "does": row.does,
                            "ranges": row.ranges,
                            "ipv4_addresses": row.ipv4_addresses,
                            // Numbers of JSON are often read as floating point.
                            "ipv6_addresses": row.ipv6_addresses.to_string(),
                            "next_expiry": row.next_expiry.map(|time| time.to_string()),
                        })
                    }),
                ),
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A list as it is printed.
struct Row<'a> {
    name: ListName,
    action: &'a ListAction,
    does: String,
    ranges: u64,
    ipv4_addresses: u64,
    ipv6_addresses: u128,
    next_expiry: Option<LogTime>,
}

impl<'a> Row<'a> {
    fn new(list: &'a List, time: LogTime) -> Self {
        let does = ListActionText(list.action()).to_string();
        let Addresses { ranges, ipv4, ipv6 } = Addresses::of(list.ranges_at(time));
        let (ipv4_addresses, ipv6_addresses) = (ipv4, ipv6);
        let next_expiry = list.next_expiry(time);
        Self { name: list.name(), action: list.action(), does, ranges, ipv4_addresses, ipv6_addresses, next_expiry }
    }
}

impl SetArgs {
    fn run(self) -> Result<ExitCode, CliError> {
        let action = self.list_action()?;
        let (list, time) = (self.list, self.append.time()?);
        if list.is_default() && action != ListAction::default() {
            warn!(
                "this is about all blocks that name no list: `edgefold lists set default --action deny` takes it back"
            );
        }
        let log = self.log.open()?;
        // What is on the list decides whether it would block too much.
        let before = self.append.state(&*log, &list)?;
        self.append.append(&*log, before.as_ref(), &[Action::List { list, action }], time)
    }

    fn list_action(&self) -> Result<ListAction, CliError> {
        if self.body.as_ref().is_some_and(String::is_empty) {
            let what = "--body is empty: leave it out, or choose a --status that has no body, such as 204";
            return Err(CliError::Usage(what.to_owned()));
        }
        let says_refusal =
            self.status.is_some() || self.body.is_some() || self.content_type.is_some() || !self.headers.is_empty();
        let other = match self.action {
            ListKind::Deny => {
                let refusal = says_refusal.then(|| self.refusal());
                return Ok(ListAction::Deny { share: self.share.unwrap_or(Share::ALL), refusal });
            }
            ListKind::Shadow => ListAction::Shadow,
            ListKind::Exempt => ListAction::Exempt,
            ListKind::Tag => ListAction::Tag,
        };
        let given = [
            ("--share", self.share.is_some()),
            ("--status", self.status.is_some()),
            ("--body", self.body.is_some()),
            ("--content-type", self.content_type.is_some()),
            ("--header", !self.headers.is_empty()),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
            return Err(CliError::Usage(format!("{flag} belongs to --action deny: no other action refuses")));
        }
        Ok(other)
    }

    fn refusal(&self) -> Refusal {
        let default = Refusal::default();
        let status = self.status.unwrap_or(default.status);
        Refusal {
            status,
            body: self.body.clone().unwrap_or_else(|| Refusal::default_body(status)),
            content_type: self.content_type.clone().unwrap_or(default.content_type),
            headers: self.headers.clone(),
        }
    }
}

impl DropArgs {
    fn run(self) -> Result<ExitCode, CliError> {
        let time = self.append.time()?;
        let log = self.log.open()?;
        // What it exempts may be refused then.
        let before = self.append.state(&*log, &self.list)?;
        self.append.append(&*log, before.as_ref(), &[Action::Unlist { list: self.list }], time)
    }
}
