//! `edgefold doctor`: what is wrong, in plain words, and what to do.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anstyle::Style;
use clap::Args;
use edgefold::{Follower, Log, LogTime, Position, clocks, now};
use edgefold_snapshot::{ClientAddress, Role};
use serde_json::{Value, json};

use super::admin_args::{AdminArgs, Proxy};
use super::log_args::LogArgs;
use super::output::{self, Format, Styles};
use super::{CliError, snapshot_file};
use crate::answers::words;
use crate::ship::cut::generation_text;
use crate::ship::ecds::module_in;
use crate::ship::snapshot_files::find_named;

mod envoy;

const EXAMPLES: &str = "\
Examples:
  edgefold doctor
  edgefold doctor --ecds-file /var/lib/edgefold/edgefold.pb --envoy-admin http://127.0.0.1:9901
  edgefold doctor -o json

Exit status: 0 if no problem was found, also if there are warnings, 1 if there is one, 64 for a usage error.";

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far the clock of this machine may be behind before that is a problem.
const SKEW: Duration = Duration::from_secs(2);
/// The metric of what was shipped.
const SHIPPED: &str = "edgefold_shipped_next_offset";
/// How many offsets before the end are looked at for the last record: between records there may be markers of transactions.
const LAST_OFFSETS: u64 = 100;

/// Check the log, `serve`, its files and Envoy, and say what is wrong and what to do
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct DoctorArgs {
    /// An ECDS file of `serve` to check; may be repeated
    #[arg(long = "ecds-file", value_name = "FILE")]
    ecds_files: Vec<PathBuf>,
    /// The admin server of an Envoy to check, such as http://127.0.0.1:9901; may be repeated
    #[arg(long = "envoy-admin", value_name = "URL")]
    envoys: Vec<String>,
    /// The output format; raw is STATE<TAB>ABOUT<TAB>WHAT<TAB>WHAT TO DO, where STATE is good, warning or problem
    #[arg(short, long = "output", value_name = "FORMAT", default_value = "human")]
    output: Format,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// How good it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Good,
    Warning,
    Problem,
}

/// Something that was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Finding {
    about: String,
    state: State,
    what: String,
    /// What to do, if anything.
    todo: String,
}

/// Everything that was checked.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn good(&mut self, about: &str, what: impl Into<String>) {
        self.add(State::Good, about, what, "");
    }

    fn warn(&mut self, about: &str, what: impl Into<String>, todo: impl Into<String>) {
        self.add(State::Warning, about, what, todo);
    }

    fn problem(&mut self, about: &str, what: impl Into<String>, todo: impl Into<String>) {
        self.add(State::Problem, about, what, todo);
    }

    fn add(&mut self, state: State, about: &str, what: impl Into<String>, todo: impl Into<String>) {
        self.0.push(Finding { about: about.to_owned(), state, what: what.into(), todo: todo.into() });
    }
}

impl DoctorArgs {
    pub(super) fn run(&self) -> Result<ExitCode, CliError> {
        let mut findings = Findings::default();
        let end = check_log(&*self.log.open()?, &mut findings);
        self.check_serve(end, &mut findings);
        let mut uses_envoys_address = true;
        for path in &self.ecds_files {
            uses_envoys_address &= check_file(path, end, &mut findings);
        }
        self.envoys.iter().for_each(|url| envoy::check(url, end, uses_envoys_address, &mut findings));
        let Findings(findings) = findings;
        output::print(|out| match self.output {
            Format::Human => print_for_people(&findings, out),
            Format::Raw => findings.iter().try_for_each(|Finding { about, state, what, todo }| {
                let todo = if todo.is_empty() { "-" } else { todo };
                let [about, what, todo] = [about.as_str(), what, todo].map(words::one_line);
                writeln!(out, "{}\t{about}\t{what}\t{todo}", state.word())
            }),
            Format::Json => output::json_array(out, findings.iter().map(Finding::json)),
        })?;
        let is_any_wrong = findings.iter().any(|finding| finding.state == State::Problem);
        Ok(if is_any_wrong { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }

    /// What the admin servers of `serve` say.
    fn check_serve(&self, end: Option<u64>, findings: &mut Findings) {
        for (url, fleet) in self.admin.fleets("/fleet", PATIENCE) {
            let about = format!("serve at {url}");
            let answers = fleet.and_then(|fleet| Ok((fleet, self.admin.metric(url, SHIPPED, PATIENCE)?)));
            let (fleet, shipped) = match answers {
                Ok(answers) => answers,
                Err(error) => {
                    let todo = "without an admin server, this says nothing about `serve`; `edgefold serve --admin 127.0.0.1:9464` has one";
                    // It names the address itself.
                    findings.warn("serve", error.to_string(), todo);
                    continue;
                }
            };
            match (shipped, end) {
                (None, _) => findings.problem(&about, "it has not shipped anything yet", "look at its log"),
                (Some(shipped), Some(end)) if shipped < end => {
                    let what = format!(
                        "it has shipped the commands below offset {shipped}, and {} came after that",
                        words::number(end - shipped)
                    );
                    let todo = "that is right if they change nothing; else look at its log: it may not reach the broker, or an open \
                                transaction hides commands";
                    findings.warn(&about, what, todo);
                }
                (Some(shipped), _) => {
                    findings.good(&about, format!("it has shipped the commands below offset {shipped}"));
                }
            }
            check_proxies(&about, &fleet.proxies, fleet.next_offset, findings);
        }
    }
}

fn check_proxies(about: &str, proxies: &[Proxy], next_offset: u64, findings: &mut Findings) {
    let should_enforce: Vec<&Proxy> = proxies.iter().filter(|proxy| proxy.should_enforce()).collect();
    let behind: Vec<&&Proxy> =
        should_enforce.iter().filter(|proxy| proxy.enforces_below.is_none_or(|below| below < next_offset)).collect();
    for proxy in &behind {
        let todo = "`edgefold fleet` shows all; a proxy that refuses a resource says why in its own log";
        findings.problem(about, format!("{}: {}", proxy.name(), proxy.state(next_offset)), todo);
    }
    if !should_enforce.is_empty() && behind.is_empty() {
        findings.good(
            about,
            format!("{} connected over gRPC, and all enforce it", words::count(should_enforce.len() as u64, "proxy")),
        );
    }
}

/// Checks the log, and returns the offset after its last command, if it can be read.
fn check_log(log: &dyn Log, findings: &mut Findings) -> Option<u64> {
    let about = "log";
    match log.check() {
        Ok(warnings) => warnings
            .iter()
            .for_each(|warning| findings.warn(about, warning, "docs/log.md says which settings it needs")),
        Err(error) => {
            findings.problem(about, CliError::from(error).to_string(), "");
            return None;
        }
    }
    let (follower, contact) = match Follower::load_with_contact(log, clocks()) {
        Ok(loaded) => loaded,
        Err(error) => {
            findings.problem(about, CliError::from(error).to_string(), "");
            return None;
        }
    };
    let end = follower.fold.position().next_offset;
    let lists = words::count(follower.fold.lists().len() as u64, "list");
    findings.good(about, format!("it can be read, and ends at offset {end}, with {lists}"));
    if contact.time() == LogTime::EPOCH {
        let what = "it does not confirm that this is all: a transaction that is open may hide commands";
        findings.problem(about, what, "find the producer that left it open: `kafka-transactions.sh --find-hanging`");
    }
    if follower.rejected > 0 || follower.undated > 0 {
        let what = format!(
            "since the view was written, {} not valid commands, and {} a key that is not a time",
            are(follower.rejected),
            if follower.undated == 1 {
                "1 has".to_owned()
            } else {
                format!("{} have", words::number(follower.undated))
            }
        );
        findings.warn(about, what, "`edgefold rejects` lists them, with the reasons");
    }
    match &follower.view {
        // An empty one is valid.
        Some(view) if view.is_usable && view.next_offset == 0 && end > 0 => {
            findings.warn("view", "it is empty, so every start replays all commands", "a running `edgefold serve` writes it");
        }
        Some(view) if view.is_usable => {
            let behind = end.saturating_sub(view.next_offset);
            findings.good("view", format!("it is valid, and {} behind", words::count(behind, "command")));
        }
        Some(_) => findings.problem(
            "view",
            "it is not valid, so every start replays all commands",
            "a running `edgefold serve` rebuilds it; `edgefold rebuild` does so now, and `edgefold verify` says what is wrong",
        ),
        None => findings.warn("view", "there is none, so every start replays all commands", "a running `edgefold serve` writes it"),
    }
    check_clock(log, end, findings);
    Some(end)
}

fn are(number: u64) -> String {
    if number == 1 { "1 record is".to_owned() } else { format!("{} records are", words::number(number)) }
}

/// Compares the clock with the time at which the log received its last record.
fn check_clock(log: &dyn Log, end: u64, findings: &mut Findings) {
    let from = Position { next_offset: end.saturating_sub(LAST_OFFSETS), ..Position::default() };
    let records = log.commands(from).and_then(|mut reader| reader.read(PATIENCE)).map(|batch| batch.records);
    let newest = records.ok().and_then(|records| records.iter().filter_map(|record| record.timestamp).max());
    let Some(newest) = newest else { return };
    let ahead = Duration::from_millis(newest.millis().saturating_sub(now().millis()));
    if ahead > SKEW {
        findings.problem(
            "clock",
            format!(
                "this machine's clock is at least {} behind that of the log, which received a command at {}",
                words::duration(ahead),
                words::time(newest)
            ),
            "synchronize the clocks (NTP): ends, and times of new commands, depend on it",
        );
    } else {
        findings.good(
            "clock",
            format!("it is not behind the last command, which the log received at {}", words::time(newest)),
        );
    }
}

/// Checks a file that `serve` ships, and returns whether Envoy says whose address is looked up, as far as is known.
fn check_file(path: &Path, end: Option<u64>, findings: &mut Findings) -> bool {
    let about = path.display().to_string();
    let snapshot = match snapshot_file::open(path) {
        Ok((snapshot, _)) => snapshot,
        Err(error) => {
            let todo = "`edgefold serve` writes it. Envoy does not start without a .pb file, and refuses one if what it names is not there";
            findings.problem("file", error.to_string(), todo);
            return true;
        }
    };
    let module = fs::read(path).ok().and_then(|file| module_in(&file.into()));
    if let Some(module) = module.filter(|module| !find_named(module, path).is_file()) {
        let todo = "without it, Envoy refuses this file: a running `edgefold serve` writes both again. All is well if only Envoy sees that path";
        findings.warn(&about, format!("it names the module {module}, which is not there"), todo);
    }
    let header = snapshot.header();
    let role = match &header.role {
        Role::Whole => "all lists",
        Role::Base => "a base",
        Role::Overlay(_) => "an overlay",
    };
    findings.good(&about, format!("it holds {role}, generation {}", generation_text(header.generation)));
    let behind = end.map(|end| end.saturating_sub(header.generation.next_offset));
    // A base travels rarely. What changes nothing is not shipped, so being behind need not be a problem.
    if let Some(behind @ 1..) = behind
        && header.role != Role::Base
    {
        let what = format!(
            "it is of the commands below offset {}, and {} came after that",
            header.generation.next_offset,
            words::number(behind)
        );
        findings.warn(
            &about,
            what,
            "that is right if they change nothing; else check that `edgefold serve` runs and writes this file",
        );
    }
    if let Some(freshness) = &header.settings.freshness {
        let age = now().millis().saturating_sub(freshness.cut_at);
        if age > freshness.max_age {
            let what = format!("it is {} old, more than its maximum age", words::duration(Duration::from_millis(age)));
            findings.problem(&about, what, "check that `edgefold serve` runs, and reaches the log");
        }
    }
    header.settings.client_address == ClientAddress::Envoy
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Finding {
    fn json(&self) -> Value {
        let Self { about, state, what, todo } = self;
        let todo = if todo.is_empty() { Value::Null } else { todo.as_str().into() };
        json!({ "about": about, "state": state.word(), "what": what, "todo": todo })
    }
}

fn print_for_people(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let styles = Styles::of_stdout();
    for Finding { about, state, what, todo } in findings {
        let (style, word) = match state {
            State::Good => (styles.good, "ok      "),
            State::Warning => (Style::new(), "warning "),
            State::Problem => (styles.bad, "PROBLEM "),
        };
        writeln!(out, "{style}{word}{style:#} {}: {}", words::one_line(about), words::one_line(what))?;
        if !todo.is_empty() {
            writeln!(out, "         {}", words::one_line(todo))?;
        }
    }
    let of = |wanted| findings.iter().filter(|finding| finding.state == wanted).count() as u64;
    let (problems, warnings) = (of(State::Problem), of(State::Warning));
    if problems + warnings == 0 {
        return writeln!(out, "all is well");
    }
    writeln!(out, "{}, {}", words::count(problems, "problem"), words::count(warnings, "warning"))
}
