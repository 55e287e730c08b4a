//! `edgefold log`

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use edgefold::{
    Action, AppendedCommand, CommandReader, IpRange, ListName, Log, LogTime, Position, Record, each_command,
};

use super::CliError;
use super::log_args::LogArgs;
use super::output::{self, Format, Styles};
use super::time_arg::moment;
use crate::answers::explained::{command_json, received_late};
use crate::answers::words;

const EXAMPLES: &str = "\
Examples:
  edgefold log --since 2h
  edgefold log --touching 10.0.0.0/24
  edgefold log --list tor-exits --origin feed-sync -o json
  edgefold log -f

Records that are not valid commands are not printed: `edgefold rejects` lists them, and also commands that were rejected because there were \
too many lists.";

/// How long to wait for new commands at a time.
const POLL: Duration = Duration::from_millis(500);

/// Print the commands in the log: offset, time and text, and when a command was received if that was long after its time
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct LogCommandArgs {
    /// Only commands about this list. Those about all lists are among them
    #[arg(long, value_name = "NAME")]
    list: Option<ListName>,
    /// Only commands with this origin
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// Only commands that the log received at this moment or later: RFC 3339, a date, or how long ago, as in 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<LogTime>,
    /// Only commands that the log received before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<LogTime>,
    /// Only commands about an address of this range
    #[arg(long, value_name = "RANGE")]
    touching: Option<IpRange>,
    /// Then wait for new commands, and print them as they come
    #[arg(short, long, conflicts_with = "until")]
    follow: bool,
    /// The output format; raw is OFFSET<TAB>TIME<TAB>RECEIVED<TAB>COMMAND, where - stands for no time. JSON is one object on each line
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    log: LogArgs,
}

impl LogCommandArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let log = self.log.open()?;
        let styles = Styles::of_stdout();
        let mut read = Ok(());
        let print = |out: &mut dyn Write| {
            let mut printed = Ok(());
            let each = |record: &Record| {
                printed = self.print(out, record, styles);
                printed.is_ok()
            };
            read = each_command(&*log, each);
            printed
        };
        match self.output {
            _ if self.follow => return self.follow(&*log, styles),
            Format::Human => output::print_long(print),
            Format::Raw | Format::Json => output::print(print),
        }?;
        read?;
        Ok(ExitCode::SUCCESS)
    }

    /// Prints until it is interrupted, or its output is closed.
    fn follow(&self, log: &dyn Log, styles: Styles) -> Result<ExitCode, CliError> {
        let mut reader = log.commands(Position::default())?;
        let (mut read, mut trouble) = (Ok(()), None);
        output::print(|out| {
            loop {
                match self.print_next(&mut *reader, out, styles, &mut trouble) {
                    Ok(printed) => printed?,
                    Err(error) => {
                        read = Err(error);
                        return Ok(());
                    }
                }
            }
        })?;
        read?;
        Ok(ExitCode::SUCCESS)
    }

    fn print_next(
        &self,
        reader: &mut dyn CommandReader,
        out: &mut dyn Write,
        styles: Styles,
        trouble: &mut Option<String>,
    ) -> Result<io::Result<()>, CliError> {
        let batch = reader.read(POLL)?;
        if let Some(new) = batch.trouble.as_ref().filter(|new| trouble.as_ref() != Some(new)) {
            output::say(&format!("the log cannot be read at the moment: {new}"));
        }
        *trouble = batch.trouble;
        let printed = batch.records.iter().try_for_each(|record| self.print(out, record, styles));
        Ok(printed.and_then(|()| out.flush()))
    }

    /// Prints the record if it is a command that is wanted.
    fn print(&self, out: &mut dyn Write, record: &Record, styles: Styles) -> io::Result<()> {
        let Some(command) = self.wanted(record) else { return Ok(()) };
        let AppendedCommand { offset, time, received, .. } = &command;
        let text = words::one_line(&command.command.to_string());
        match self.output {
            Format::Human => {
                let quiet = styles.quiet;
                let late =
                    received_late(&command).map(|(received, _)| format!(" (received {})", words::time(received)));
                writeln!(out, "{quiet}{offset}  {}{}{quiet:#}  {text}", words::time(*time), late.unwrap_or_default())
            }
            Format::Raw => {
                let received = received.map_or("-".to_owned(), |received| received.to_string());
                writeln!(out, "{offset}\t{time}\t{received}\t{text}")
            }
            Format::Json => writeln!(out, "{}", command_json(&command)),
        }
    }

    fn wanted(&self, record: &Record) -> Option<AppendedCommand> {
        let received = record.timestamp.or_else(|| record.time())?;
        let is_in_time =
            self.since.is_none_or(|since| received >= since) && self.until.is_none_or(|until| received < until);
        if !is_in_time {
            return None;
        }
        let command = AppendedCommand::new(record)?;
        let (list, range) = match &command.command.action {
            Action::Blacklist { list, range, .. } => (Some(*list), Some(*range)),
            Action::Whitelist { list, range } => (*list, Some(*range)),
            Action::List { list, .. } | Action::Unlist { list } => (Some(*list), None),
        };
        let is_wanted = self.list.is_none_or(|wanted| list.is_none_or(|list| list == wanted))
            && self.origin.as_ref().is_none_or(|wanted| command.command.origin.as_ref() == Some(wanted))
            && self.touching.is_none_or(|wanted| range.is_some_and(|range| range.common(wanted).is_some()));
        // Not every command is accepted.
        (is_wanted && record.effect().is_ok()).then_some(command)
    }
}
