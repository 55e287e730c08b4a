//! The settings of the filter, from flags and from a file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use edgefold::{IpRange, parse_ttl};
use edgefold_snapshot::{
    ClientAddress, Freshness, Mode, Named, NoAddress, OpenConnections, Refusal, Settings, SettingsError,
    TrustedProxies, WhenStale,
};
use serde::{Deserialize, Deserializer, de};

use super::CliError;

/// What the filter does with requests and connections. Flags override the file, and the file overrides the defaults.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Settings of the filter")]
pub(super) struct SettingsArgs {
    /// Read settings from this TOML file, where they have the names of the flags with underscores; flags override it
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

/// The settings that flags or a file give.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    /// Refuse blocked clients (enforce), or let everything pass and report what would be refused (shadow) [default: enforce]
    #[arg(long, value_name = "MODE", value_parser = named::<Mode>())]
    #[serde(deserialize_with = "named_in_file")]
    mode: Option<Mode>,
    /// The status of a refusal [default: 403]
    #[arg(long, value_name = "STATUS")]
    status: Option<u16>,
    /// The body of a refusal [default: Forbidden]
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// The content type of that body [default: text/plain]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A header of a refusal; may be repeated. In the file: a table `headers`
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    #[serde(deserialize_with = "headers_in_file")]
    headers: Vec<(String, String)>,
    /// Which address the HTTP filter looks up: the client as Envoy's configuration determines it (envoy), the peer that
    /// opened the connection (connection), or what proxies in front wrote to a header (header:NAME) [default: envoy]
    #[arg(long, value_name = "SOURCE")]
    client_address: Option<AddressSource>,
    /// How many proxies in front append to that header: the client is this many entries from the right [default: 1]
    #[arg(long, value_name = "N")]
    trusted_hops: Option<u16>,
    /// Trust that header only from peers in this range, by the address of the connection if Envoy provides it (see
    /// docs/filter.md), else by the client that Envoy determined; may be repeated. In the file: a list `trusted_proxies`
    #[arg(long = "trusted-proxy", value_name = "RANGE")]
    #[serde(deserialize_with = "ranges_in_file")]
    trusted_proxies: Vec<IpRange>,
    /// What happens if there is no IP address, as on a Unix domain socket or an internal listener, or if the header's entry is
    /// not an IP address: allow or deny [default: allow]
    #[arg(long, value_name = "POLICY", value_parser = named::<NoAddress>())]
    #[serde(deserialize_with = "named_in_file")]
    no_address: Option<NoAddress>,
    /// How old a snapshot may get before it is stale, as in 1h; `serve` ships a new one every quarter of this [default: any age]
    #[arg(long, value_name = "DURATION", value_parser = age)]
    #[serde(deserialize_with = "age_in_file")]
    max_age: Option<u64>,
    /// What happens while the snapshot is stale: it keeps serving (keep), or everything is refused (deny) [default: keep]
    #[arg(long, value_name = "POLICY", value_parser = named::<WhenStale>())]
    #[serde(deserialize_with = "named_in_file")]
    when_stale: Option<WhenStale>,
    /// What happens to what is open when its client gets blocked: keep it, or end it at the next bytes from the client (recheck). In
    /// the network filter these are connections, in the HTTP filter tunnels, WebSockets and long requests [default: keep]
    #[arg(long, value_name = "POLICY", value_parser = named::<OpenConnections>())]
    #[serde(deserialize_with = "named_in_file")]
    open_connections: Option<OpenConnections>,
    /// The request header that tells the upstream on which lists with the action tag a client is [default: x-edgefold-lists]
    #[arg(long, value_name = "NAME")]
    tag_header: Option<String>,
}

/// Parses a flag whose values have names.
pub(super) fn named<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let names = PossibleValuesParser::new(T::ALL.iter().map(|(name, _)| *name));
    names.try_map(|name| T::from_name(&name.to_ascii_lowercase()).ok_or(NoSuchName))
}

/// Never shown: the flag's parser only accepts known names.
#[derive(Debug, thiserror::Error)]
#[error("there is no such name")]
struct NoSuchName;

fn named_in_file<'de, T: Named, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let name = String::deserialize(deserializer)?;
    let names = || T::ALL.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
    T::from_name(&name)
        .map(Some)
        .ok_or_else(|| de::Error::custom(format!("{name:?} is not a value: write {}", names())))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
enum AddressSource {
    Envoy,
    Connection,
    Header(String),
}

impl FromStr for AddressSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "envoy" => Ok(Self::Envoy),
            None if text == "connection" => Ok(Self::Connection),
            Some(("header", name)) => Ok(Self::Header(name.to_owned())),
            _ => Err(format!("{text:?} is not a source of addresses: write envoy, connection or header:NAME")),
        }
    }
}

impl TryFrom<String> for AddressSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A header of a response.
pub(super) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text:?} is not a header: write NAME: VALUE"))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// In milliseconds.
fn age(text: &str) -> Result<u64, String> {
    let age = parse_ttl(text).map_err(|_| format!("{text:?} is not an age: write it as in 90s, 4h or 1h30m"))?;
    Ok(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn headers_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    Ok(BTreeMap::deserialize(deserializer)?.into_iter().collect())
}

fn ranges_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpRange>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| text.parse().map_err(invalid)).collect()
}

fn age_in_file<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    age(&String::deserialize(deserializer)?).map(Some).map_err(invalid)
}

fn invalid<E: de::Error>(error: impl fmt::Display) -> E {
    E::custom(error)
}

impl SettingsArgs {
    /// All settings, with a [`Freshness::cut_at`] of 0.
    ///
    /// # Errors
    /// A file that cannot be read, and settings that are invalid or exclude each other. Both are usage errors.
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
    /// Takes whatever is not given here from `other`.
    fn or(self, other: Self) -> Self {
        fn either<T>(here: Vec<T>, there: Vec<T>) -> Vec<T> {
            if here.is_empty() { there } else { here }
        }
        // The proxies that write a header have nothing to do with another source.
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
            tag_header: self.tag_header.or(other.tag_header),
        }
    }
}

fn settings(given: Given) -> Result<Settings, String> {
    let default = Refusal::default();
    let client_address = match given.client_address {
        Some(AddressSource::Header(name)) => ClientAddress::Header {
            name,
            trusted_hops: given.trusted_hops.unwrap_or(1),
            trusted_proxies: TrustedProxies(given.trusted_proxies),
        },
        _ if given.trusted_hops.is_some() || !given.trusted_proxies.is_empty() => {
            return Err(
                "--trusted-hops and --trusted-proxy need --client-address header:NAME; Envoy's own handling of \
                        X-Forwarded-For is configured in Envoy"
                    .to_owned(),
            );
        }
        Some(AddressSource::Connection) => ClientAddress::Connection,
        Some(AddressSource::Envoy) | None => ClientAddress::Envoy,
    };
    if given.when_stale.is_some() && given.max_age.is_none() {
        return Err("--when-stale needs --max-age".to_owned());
    }
    let when_stale = given.when_stale.unwrap_or_default();
    let settings = Settings {
        mode: given.mode.unwrap_or_default(),
        refusal: Refusal {
            status: given.status.unwrap_or(default.status),
            body: given.body.unwrap_or(default.body),
            content_type: given.content_type.unwrap_or(default.content_type),
            headers: given.headers,
        },
        client_address,
        no_address: given.no_address.unwrap_or_default(),
        freshness: given.max_age.map(|max_age| Freshness { cut_at: 0, max_age, when_stale }),
        open_connections: given.open_connections.unwrap_or_default(),
        tag_header: given.tag_header.map_or(Settings::default().tag_header, |name| name.to_ascii_lowercase()),
    };
    settings.check().map_err(|error: SettingsError| error.to_string())?;
    Ok(settings)
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
        tag_header = "X-Lists"
    "#;

    #[test]
    fn flags_override_the_file_and_both_have_all_settings() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, FILE).unwrap();
        let file = file.path().to_str().unwrap();
        let of_file = read(&["--settings", file]).unwrap();
        let range = |text: &str| text.parse().unwrap();
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
                trusted_proxies: TrustedProxies(vec![range("10.0.0.0/8"), range("2001:db8::1")]),
            },
            no_address: NoAddress::Deny,
            freshness: Some(Freshness { cut_at: 0, max_age: 3_600_000, when_stale: WhenStale::Deny }),
            open_connections: OpenConnections::Recheck,
            tag_header: "x-lists".to_owned(),
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
            ["--tag-header", "x-lists"],
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
    fn errors_say_what_is_wrong() {
        for (args, words) in [
            (&["--status", "99"][..], "status 99 is not the status of a final response"),
            (&["--header", "x-why"], "write NAME: VALUE"),
            (&["--header", "content-length: 7"], "\"content-length\" cannot be used"),
            (&["--client-address", "cookie"], "write envoy, connection or header:NAME"),
            (&["--client-address", "header:"], "\"\" cannot be used"),
            (&["--client-address", "header:x-real-ip", "--trusted-hops", "0"], "at least one trusted hop"),
            (&["--trusted-hops", "2"], "need --client-address header:NAME"),
            (&["--trusted-proxy", "10.0.0.5/24"], "host bits"),
            (&["--when-stale", "deny"], "needs --max-age"),
            (&["--max-age", "soon"], "is not an age"),
            (&["--tag-header", "cookie"], "cookie\" cannot be the header for tags"),
        ] {
            let error = read(args).unwrap_err();
            assert!(error.contains(words), "{args:?}: {error}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, words) in [
            ("mode = \"dry-run\"", r#""dry-run" is not a value: write "enforce" or "shadow""#),
            ("modus = \"shadow\"", "unknown field `modus`"),
            ("max_age = \"soon\"", "is not an age"),
            ("trusted_proxies = [\"10.0.0.5/24\"]", "host bits"),
            ("mode", "expected"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = read(&["--settings", file.path().to_str().unwrap()]).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
