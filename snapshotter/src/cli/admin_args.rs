//! Asking the admin servers of `serve`: who enforces what.

use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use edgefold::parse_ttl;
use serde::Deserialize;
use serde_json::Value;
use ureq::Agent;

use super::output;
use super::{CliError, NOT_CONFIRMED};
use crate::answers::words;

/// How much longer than it was told to wait a server may take to answer.
const GRACE: Duration = Duration::from_secs(5);
/// The most bytes of an answer: 100,000 proxies have less.
const MOST_BYTES: u64 = 256 << 20;

/// Where the admin servers are.
#[derive(Args, Clone, Debug)]
pub(super) struct AdminArgs {
    /// The admin servers of all replicas of `serve --xds`, separated by commas: each knows only the proxies that are connected to it
    #[arg(
        long = "admin-url",
        value_name = "URL",
        env = "EDGEFOLD_ADMIN",
        value_delimiter = ',',
        value_parser = admin_url,
        default_value = "http://127.0.0.1:9464"
    )]
    urls: Vec<String>,
}

/// Whether to wait until proxies enforce a command.
#[derive(Args, Debug)]
#[command(next_help_heading = "Waiting for proxies")]
pub(super) struct WaitArgs {
    /// Wait until every proxy that is connected to `serve --xds` has accepted what was appended, but not longer than this [default if no
    /// duration is given, as in --wait: 30s]. docs/fleet.md says what that promises
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "30s", value_parser = parse_ttl)]
    wait: Option<Duration>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// What `/fleet` and `/wait` return.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Fleet {
    /// All of it.
    #[serde(skip)]
    json: Value,
    pub(super) next_offset: u64,
    #[serde(default)]
    enforced: bool,
    pub(super) proxies: Vec<Proxy>,
}

/// A proxy, as the admin server describes it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Proxy {
    pub(super) node: String,
    pub(super) cluster: String,
    pub(super) address: String,
    pub(super) connected_at: String,
    pub(super) enforces_below: Option<u64>,
    /// Whether it has a filter, rather than only a base.
    has_filter: bool,
    pub(super) resources: Vec<Resource>,
    pub(super) unknown_resources: Vec<String>,
}

/// What a proxy has of a resource.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Resource {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) accepted_at: Option<String>,
    pub(super) nack: Option<Nack>,
}

/// What a proxy has refused.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Nack {
    pub(super) version: String,
    pub(super) message: String,
    pub(super) times: u32,
}

fn admin_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(host) if !host.is_empty() => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("write http:// and the address, as in http://127.0.0.1:9464: an admin server has no TLS".to_owned()),
    }
}

impl AdminArgs {
    /// What each of them knows about its proxies, by its URL.
    pub(super) fn fleets(&self, path: &str, most: Duration) -> Vec<(&str, Result<Fleet, CliError>)> {
        let agent: Agent = Agent::config_builder().timeout_global(Some(most + GRACE)).build().into();
        let get = |url: &str| {
            let failed = |source: ureq::Error| CliError::NoAdmin { url: url.to_owned(), source: Box::new(source) };
            let mut response = agent.get(format!("{url}{path}")).call().map_err(failed)?;
            let json: Value = response.body_mut().with_config().limit(MOST_BYTES).read_json().map_err(failed)?;
            let not_one = |source| CliError::NotAnAdmin { url: url.to_owned(), source };
            Ok(Fleet { json: json.clone(), ..Fleet::deserialize(json).map_err(not_one)? })
        };
        thread::scope(|scope| {
            let asked: Vec<_> = self.urls.iter().map(|url| (url.as_str(), scope.spawn(move || get(url)))).collect();
            // A panic of the thread is one of the caller.
            let answers = asked.into_iter().map(|(url, thread)| (url, thread.join()));
            answers.map(|(url, answer)| (url, answer.unwrap_or_else(|panic| resume_unwind(panic)))).collect()
        })
    }
}

impl AdminArgs {
    /// The value of a metric of one of them; `None` if there is none yet.
    pub(super) fn metric(&self, url: &str, name: &str, most: Duration) -> Result<Option<u64>, CliError> {
        let failed = |source: ureq::Error| CliError::NoAdmin { url: url.to_owned(), source: Box::new(source) };
        let agent: Agent = Agent::config_builder().timeout_global(Some(most)).build().into();
        let mut response = agent.get(format!("{url}/metrics")).call().map_err(failed)?;
        let text = response.body_mut().with_config().limit(MOST_BYTES).read_to_string().map_err(failed)?;
        Ok(text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()))
    }
}

impl Fleet {
    /// What the server at `url` has answered.
    pub(super) fn json(&self, url: &str) -> Value {
        let mut json = self.json.clone();
        if let Some(json) = json.as_object_mut() {
            json.insert("admin_url".to_owned(), url.into());
        }
        json
    }
}

impl WaitArgs {
    /// Waits until all commands below `next_offset` are enforced, if that is asked for, and returns the exit status.
    pub(super) fn wait(&self, next_offset: u64) -> u8 {
        let Some(most) = self.wait else { return 0 };
        let (began, several) = (Instant::now(), self.admin.urls.len() > 1);
        let path = format!("/wait?next_offset={next_offset}&timeout_ms={}&allow_none={several}", most.as_millis());
        let (mut fleets, mut unknown) = (Vec::new(), String::new());
        for (url, fleet) in self.admin.fleets(&path, most) {
            match fleet {
                Ok(fleet) => fleets.push((url, fleet)),
                Err(error) => unknown += &format!("\n  it is not known who is connected there: {error}"),
            }
        }
        let proxies: Vec<&Proxy> =
            fleets.iter().flat_map(|(_, fleet)| &fleet.proxies).filter(|proxy| proxy.should_enforce()).collect();
        if unknown.is_empty() && fleets.iter().all(|(_, fleet)| fleet.enforced) && !proxies.is_empty() {
            let took = began.elapsed().as_millis();
            let who = if proxies.len() == 1 {
                "1 proxy enforces".to_owned()
            } else {
                format!("{} proxies enforce", proxies.len())
            };
            output::say(&format!("{who} it, {took} ms after it was appended"));
            return 0;
        }
        let mut text = "everything was appended, but not every proxy has confirmed it".to_owned();
        if proxies.is_empty() && unknown.is_empty() {
            text += ": no proxy is connected to `serve --xds`. One that reads files cannot confirm: `edgefold doctor --envoy-admin URL` says what \
                     it enforces";
        }
        text += &unknown;
        for (url, fleet) in &fleets {
            // A server without --xds ships to nobody that it could ask.
            if fleet.next_offset < next_offset && !fleet.proxies.is_empty() {
                text += &format!("\n  {url} has shipped the commands below {} only", fleet.next_offset);
            }
            let late =
                |proxy: &&Proxy| proxy.should_enforce() && proxy.enforces_below.is_none_or(|of| of < next_offset);
            for proxy in fleet.proxies.iter().filter(late) {
                text += &format!("\n  {}: {}", proxy.name(), proxy.state(next_offset));
            }
        }
        output::say(&text);
        NOT_CONFIRMED
    }
}

impl Proxy {
    /// Who it is, for people.
    pub(super) fn name(&self) -> String {
        words::one_line(&format!("{} at {}", self.node, self.address))
    }

    /// Whether it should enforce something: it has a filter, or asks for one by a wrong name.
    pub(super) fn should_enforce(&self) -> bool {
        self.has_filter || !self.unknown_resources.is_empty()
    }

    /// What it enforces of the commands below `next_offset`, for people.
    pub(super) fn state(&self, next_offset: u64) -> String {
        let mut text = match self.enforces_below {
            _ if !self.has_filter => "has no filter".to_owned(),
            Some(offset) if offset >= next_offset => "enforces all".to_owned(),
            Some(offset) => format!("behind: enforces the commands below {offset} of {next_offset}"),
            None if self.resources.iter().any(|resource| resource.version.is_some()) => {
                "behind: waits for the rest of a base and an overlay".to_owned()
            }
            None => "behind: has nothing yet".to_owned(),
        };
        for resource in &self.resources {
            if let Some(Nack { version, message, times }) = &resource.nack {
                let times = if *times == 1 { String::new() } else { format!(" {times} times") };
                text += &format!("; it refused {} {version}{times}: {message}", resource.name);
            }
        }
        for name in &self.unknown_resources {
            text += &format!("; it asks for {name}, which does not exist");
        }
        words::one_line(&text)
    }
}
