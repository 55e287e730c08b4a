//! The settings of the filter, from flags and from a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use edgefold_table::{
    ClientAddress, Freshness, IpRange, Mode, NoAddress, OpenConnections, Refusal, Settings, SettingsError, WhenStale,
};
use serde::Deserialize;

use super::CliError;
use crate::command::parse_ttl;
use crate::range_text::parse_range;
use crate::time::LogTime;

/// What the filter does with requests and connections. Whatever is not given is as in the file, and else as it is by default.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Settings of the filter")]
pub(super) struct SettingsArgs {
    /// Read settings from this TOML file, where they have the same names with underscores; flags go before it
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

/// What is given by flags, or by a file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    /// Refuse what is blocked, or let all pass and count what would be refused [default: enforce]
    #[arg(long, value_name = "MODE")]
    mode: Option<ModeName>,
    /// The status of a refusal [default: 403]
    #[arg(long, value_name = "STATUS")]
    status: Option<u16>,
    /// The body of a refusal [default: Forbidden]
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// The content type of that body [default: text/plain]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A header of a refusal; may be given several times. In the file: a table `headers`
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    #[serde(deserialize_with = "headers")]
    headers: Vec<(String, String)>,
    /// Whose address an HTTP request is judged by: envoy (its own handling of X-Forwarded-For), connection, or header:NAME
    /// (what proxies in front wrote there) [default: envoy]
    #[arg(long, value_name = "SOURCE")]
    client_address: Option<AddressSource>,
    /// How many proxies in front append to that header: the client is so many entries from its right [default: 1]
    #[arg(long, value_name = "N")]
    trusted_hops: Option<u16>,
    /// Believe that header from these peers only, by the address of the connection if Envoy says it (see docs/filter.md), else
    /// by whom it takes for the client; may be given several times. In the file: a list `trusted_proxies`
    #[arg(long = "trusted-proxy", value_name = "RANGE", value_parser = trusted_proxy)]
    #[serde(deserialize_with = "ranges")]
    trusted_proxies: Vec<IpRange>,
    /// What happens where there is no IP address: on a Unix domain socket or an internal listener, or where a header has
    /// something else [default: allow]
    #[arg(long, value_name = "POLICY")]
    no_address: Option<Policy>,
    /// How old a snapshot may get before it is stale, as in 1h; a new one is shipped in time [default: any age]
    #[arg(long, value_name = "DURATION", value_parser = age)]
    #[serde(deserialize_with = "optional_age")]
    max_age: Option<u64>,
    /// What happens while the snapshot is stale: it serves on (keep), or all are refused (deny) [default: keep]
    #[arg(long, value_name = "POLICY")]
    when_stale: Option<StalePolicy>,
    /// What the network filter does with connections that are open when they are blocked: keep, or recheck at the next bytes
    /// [default: keep]
    #[arg(long, value_name = "POLICY")]
    open_connections: Option<OpenPolicy>,
}

#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum ModeName {
    Enforce,
    Shadow,
}

#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Policy {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum StalePolicy {
    Keep,
    Deny,
}

#[derive(Clone, Copy, Debug, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum OpenPolicy {
    Keep,
    Recheck,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
enum AddressSource {
    Envoy,
    Connection,
    Header(String),
}

impl std::str::FromStr for AddressSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "envoy" => Ok(Self::Envoy),
            None if text == "connection" => Ok(Self::Connection),
            Some(("header", name)) => Ok(Self::Header(name.to_owned())),
            _ => Err(format!("{text:?} is no source of an address: give envoy, connection or header:NAME")),
        }
    }
}

impl TryFrom<String> for AddressSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text:?} is no header: write NAME: VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn trusted_proxy(text: &str) -> Result<IpRange, String> {
    parse_range(text).map_err(|error| error.to_string())
}

/// In milliseconds.
fn age(text: &str) -> Result<u64, String> {
    let age = parse_ttl(text).map_err(|_| format!("{text:?} is no age: write it as in 90s, 4h or 1h30m"))?;
    Ok(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn headers<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    Ok(BTreeMap::deserialize(deserializer)?.into_iter().collect())
}

fn ranges<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<IpRange>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| trusted_proxy(text).map_err(serde::de::Error::custom)).collect()
}

fn optional_age<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    age(&String::deserialize(deserializer)?).map(Some).map_err(serde::de::Error::custom)
}

impl SettingsArgs {
    /// All settings but the moment that freshness is counted from, which is 0.
    ///
    /// # Errors
    /// A file that cannot be read, and settings that are wrong or go not together: usage errors.
    pub(super) fn read(&self) -> Result<Settings, CliError> {
        let file = self.settings.as_deref().map(read_file).transpose()?.unwrap_or_default();
        settings(self.given.clone().or(file)).map_err(CliError::Usage)
    }
}

fn read_file(path: &Path) -> Result<Given, CliError> {
    let text = std::fs::read_to_string(path).map_err(CliError::file(path))?;
    toml::from_str(&text).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

impl Given {
    /// What is not given here is as in `other`.
    fn or(self, other: Self) -> Self {
        fn either<T>(here: Vec<T>, there: Vec<T>) -> Vec<T> {
            if here.is_empty() { there } else { here }
        }
        // Who writes a header is not a matter of another source.
        let (other_hops, other_proxies) = match self.client_address {
            Some(_) => (None, Vec::new()),
            None => (other.trusted_hops, other.trusted_proxies),
        };
        Self {
            mode: self.mode.or(other.mode),
            status: self.status.or(other.status),
            body: self.body.or(other.body),
            content_type: self.content_type.or(other.content_type),
            headers: either(self.headers, other.headers),
            client_address: self.client_address.or(other.client_address),
            trusted_hops: self.trusted_hops.or(other_hops),
            trusted_proxies: either(self.trusted_proxies, other_proxies),
            no_address: self.no_address.or(other.no_address),
            max_age: self.max_age.or(other.max_age),
            when_stale: self.when_stale.or(other.when_stale),
            open_connections: self.open_connections.or(other.open_connections),
        }
    }
}

fn settings(given: Given) -> Result<Settings, String> {
    let default = Refusal::default();
    let client_address = match given.client_address {
        Some(AddressSource::Header(name)) => ClientAddress::Header {
            name,
            trusted_hops: given.trusted_hops.unwrap_or(1),
            trusted_proxies: given.trusted_proxies,
        },
        _ if given.trusted_hops.is_some() || !given.trusted_proxies.is_empty() => {
            return Err(
                "--trusted-hops and --trusted-proxy go with --client-address header:NAME; Envoy's own handling of \
                        X-Forwarded-For is set in Envoy"
                    .to_owned(),
            );
        }
        Some(AddressSource::Connection) => ClientAddress::Connection,
        Some(AddressSource::Envoy) | None => ClientAddress::Envoy,
    };
    let when_stale = match given.when_stale {
        Some(_) if given.max_age.is_none() => return Err("--when-stale goes with --max-age".to_owned()),
        Some(StalePolicy::Deny) => WhenStale::Deny,
        Some(StalePolicy::Keep) | None => WhenStale::Keep,
    };
    let settings = Settings {
        mode: match given.mode {
            Some(ModeName::Shadow) => Mode::Shadow,
            Some(ModeName::Enforce) | None => Mode::Enforce,
        },
        refusal: Refusal {
            status: given.status.unwrap_or(default.status),
            body: given.body.unwrap_or(default.body),
            content_type: given.content_type.unwrap_or(default.content_type),
            headers: given.headers,
        },
        client_address,
        no_address: match given.no_address {
            Some(Policy::Deny) => NoAddress::Deny,
            Some(Policy::Allow) | None => NoAddress::Allow,
        },
        freshness: given.max_age.map(|max_age| Freshness { cut_at: 0, max_age, when_stale }),
        open_connections: match given.open_connections {
            Some(OpenPolicy::Recheck) => OpenConnections::Recheck,
            Some(OpenPolicy::Keep) | None => OpenConnections::Keep,
        },
    };
    settings.check().map_err(|error: SettingsError| error.to_string())?;
    Ok(settings)
}

/// The settings as of `now`. Freshness is counted from a multiple of a quarter of the age, so that a snapshot is cut so often
/// and not more, and all replicas cut the same.
pub(super) fn at(settings: &Settings, now: LogTime) -> Settings {
    let freshness = settings.freshness.map(|freshness| {
        let step = (freshness.max_age / 4).max(1);
        Freshness { cut_at: now.millis() / step * step, ..freshness }
    });
    Settings { freshness, ..settings.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: SettingsArgs,
    }

    fn read(args: &[&str]) -> Result<Settings, String> {
        let line = ["edgefold"].iter().chain(args);
        let line = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        line.settings.read().map_err(|error| error.to_string())
    }

    const FILE: &str = r#"
        mode = "shadow"
        status = 429
        body = "Later\n"
        content_type = "text/html"
        headers = { retry-after = "60", x-why = "blocked" }
        client_address = "header:X-Real-IP"
        trusted_hops = 2
        trusted_proxies = ["10.0.0.0/8", "2001:db8::1"]
        no_address = "deny"
        max_age = "1h"
        when_stale = "deny"
        open_connections = "recheck"
    "#;

    #[test]
    fn flags_go_before_the_file_and_both_say_all_there_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, FILE).unwrap();
        let file = file.path().to_str().unwrap();
        let of_file = read(&["--settings", file]).unwrap();
        let range = |text| parse_range(text).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = Settings {
            mode: Mode::Shadow,
            refusal: Refusal {
                status: 429,
                body: "Later\n".to_owned(),
                content_type: "text/html".to_owned(),
                headers: vec![pair("retry-after", "60"), pair("x-why", "blocked")],
            },
            client_address: ClientAddress::Header {
                name: "X-Real-IP".to_owned(),
                trusted_hops: 2,
                trusted_proxies: vec![range("10.0.0.0/8"), range("2001:db8::1")],
            },
            no_address: NoAddress::Deny,
            freshness: Some(Freshness { cut_at: 0, max_age: 3_600_000, when_stale: WhenStale::Deny }),
            open_connections: OpenConnections::Recheck,
        };
        assert_eq!(of_file, expected);
        let flags = [
            ["--mode", "shadow"],
            ["--status", "429"],
            ["--body", "Later\n"],
            ["--content-type", "text/html"],
            ["--header", "retry-after: 60"],
            ["--header", "x-why: blocked"],
            ["--client-address", "header:X-Real-IP"],
            ["--trusted-hops", "2"],
            ["--trusted-proxy", "10.0.0.0/8"],
            ["--trusted-proxy", "2001:db8::1"],
            ["--no-address", "deny"],
            ["--max-age", "1h"],
            ["--when-stale", "deny"],
            ["--open-connections", "recheck"],
        ];
        assert_eq!(read(flags.as_flattened()).unwrap(), expected);
        let mixed = read(&["--settings", file, "--mode", "enforce", "--header", "x-only: this"]).unwrap();
        assert_eq!(mixed.mode, Mode::Enforce);
        assert_eq!(mixed.refusal.headers, [pair("x-only", "this")]);
        assert_eq!(mixed.refusal.status, 429);
        let other = read(&["--settings", file, "--client-address", "connection"]).unwrap();
        assert_eq!(other.client_address, ClientAddress::Connection);
        assert_eq!(read(&[]).unwrap(), Settings::default());
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (args, words) in [
            (&["--status", "99"][..], "status 99 is none of a final response"),
            (&["--header", "x-why"], "write NAME: VALUE"),
            (&["--header", "content-length: 7"], "\"content-length\" cannot be used"),
            (&["--client-address", "cookie"], "give envoy, connection or header:NAME"),
            (&["--client-address", "header:"], "\"\" cannot be used"),
            (&["--client-address", "header:x-real-ip", "--trusted-hops", "0"], "at least one trusted hop"),
            (&["--trusted-hops", "2"], "go with --client-address header:NAME"),
            (&["--trusted-proxy", "10.0.0.5/24"], "host bits"),
            (&["--when-stale", "deny"], "goes with --max-age"),
            (&["--max-age", "soon"], "is no age"),
        ] {
            let error = read(args).unwrap_err();
            assert!(error.contains(words), "{args:?}: {error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, words) in [
            ("mode = \"dry-run\"", "unknown variant `dry-run`, expected `enforce` or `shadow`"),
            ("modus = \"shadow\"", "unknown field `modus`"),
            ("max_age = \"soon\"", "is no age"),
            ("trusted_proxies = [\"10.0.0.5/24\"]", "host bits"),
            ("mode", "expected"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = read(&["--settings", file.path().to_str().unwrap()]).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn freshness_moves_in_quarters() {
        let freshness = Some(Freshness { cut_at: 0, max_age: 4_000, when_stale: WhenStale::Keep });
        let settings = Settings { freshness, ..Settings::default() };
        let cut_at = |millis| at(&settings, LogTime::from_millis(millis).unwrap()).freshness.map(|fresh| fresh.cut_at);
        assert_eq!([cut_at(9_999), cut_at(10_000), cut_at(10_999)], [Some(9_000), Some(10_000), Some(10_000)]);
        assert_eq!(at(&Settings::default(), LogTime::LAST).freshness, None);
    }
}
