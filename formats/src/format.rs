//! The formats, by name, and how to tell which one a file has.

use std::fmt;
use std::str::FromStr;

use crate::about::About;
use crate::{
    aws, azure, cisco, crowdsec, csv, dshield, envoy_rbac, f5, gcp, haproxy, input, ipset, json, juniper, lines,
    mikrotik, mmdb, nftables, nftables_json, nginx, spamhaus_json, stix,
};

/// The format of a file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Format {
    /// An address, a CIDR block or first-last on each line.
    Lines,
    /// CIDR blocks only.
    Cidr,
    /// first-last only.
    Ranges,
    /// Comma-separated values with a header.
    Csv,
    /// DShield's block.txt.
    Dshield,
    /// What `ipset save` writes.
    Ipset,
    /// Sets of nftables as text.
    Nftables,
    /// Sets of nftables as JSON.
    NftablesJson,
    /// `deny` lines of nginx.
    NginxDeny,
    /// A `geo` block of nginx.
    NginxGeo,
    /// A map of HAProxy for `map_ip`.
    HaproxyMap,
    /// A file of addresses for an `acl` of HAProxy.
    HaproxyAcl,
    /// A script of RouterOS with address lists.
    Mikrotik,
    /// A data group of F5's BIG-IP.
    F5,
    /// Prefix lists, access lists or object groups of Cisco.
    Cisco,
    /// Prefix lists of Juniper's Junos.
    Juniper,
    /// edgefold's own JSON.
    Json,
    /// Spamhaus DROP as lines of JSON.
    SpamhausJson,
    /// The address ranges of AWS.
    Aws,
    /// The address ranges of Google.
    Gcp,
    /// The service tags of Azure.
    Azure,
    /// Decisions of CrowdSec.
    Crowdsec,
    /// The indicators of a STIX bundle.
    Stix,
    /// Envoy's RBAC filter with an IP matcher.
    EnvoyRbac,
    /// A MaxMind database.
    Mmdb,
}

impl Format {
    /// All formats, from the general to the specific: a file that could have two of them has the later one.
    pub const ALL: &'static [Self] = &[
        Self::Lines,
        Self::Cidr,
        Self::Ranges,
        Self::HaproxyMap,
        Self::HaproxyAcl,
        Self::Csv,
        Self::Dshield,
        Self::Ipset,
        Self::Nftables,
        Self::NftablesJson,
        Self::NginxDeny,
        Self::NginxGeo,
        Self::Mikrotik,
        Self::F5,
        Self::Cisco,
        Self::Juniper,
        Self::Json,
        Self::SpamhausJson,
        Self::Aws,
        Self::Gcp,
        Self::Azure,
        Self::Crowdsec,
        Self::Stix,
        Self::EnvoyRbac,
        Self::Mmdb,
    ];

    pub(crate) fn about(self) -> &'static About {
        match self {
            Self::Lines => &lines::LINES,
            Self::Cidr => &lines::CIDR,
            Self::Ranges => &lines::RANGES,
            Self::Csv => &csv::ABOUT,
            Self::Dshield => &dshield::ABOUT,
            Self::Ipset => &ipset::ABOUT,
            Self::Nftables => &nftables::ABOUT,
            Self::NftablesJson => &nftables_json::ABOUT,
            Self::NginxDeny => &nginx::NGINX_DENY,
            Self::NginxGeo => &nginx::NGINX_GEO,
            Self::HaproxyMap => &haproxy::HAPROXY_MAP,
            Self::HaproxyAcl => &haproxy::HAPROXY_ACL,
            Self::Mikrotik => &mikrotik::ABOUT,
            Self::F5 => &f5::ABOUT,
            Self::Cisco => &cisco::ABOUT,
            Self::Juniper => &juniper::ABOUT,
            Self::Json => &json::ABOUT,
            Self::SpamhausJson => &spamhaus_json::ABOUT,
            Self::Aws => &aws::ABOUT,
            Self::Gcp => &gcp::ABOUT,
            Self::Azure => &azure::ABOUT,
            Self::Crowdsec => &crowdsec::ABOUT,
            Self::Stix => &stix::ABOUT,
            Self::EnvoyRbac => &envoy_rbac::ABOUT,
            Self::Mmdb => &mmdb::ABOUT,
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// What it is, for people, as in "this is not ...".
    pub fn describe(self) -> &'static str {
        self.about().describe
    }

    /// Whether it can be read.
    pub fn is_read(self) -> bool {
        self.about().read.is_some()
    }

    /// Whether it can be written.
    pub fn is_written(self) -> bool {
        self.about().write.is_some()
    }

    /// Whether it can say when a range ends.
    pub fn says_ends(self) -> bool {
        self.about().says_ends
    }

    /// The fields by which entries can be chosen: see [`crate::Wanted`].
    pub fn fields(self) -> &'static [&'static str] {
        self.about().fields
    }

    /// Whether entries can be chosen by fields whose names only the file knows.
    pub fn has_any_field(self) -> bool {
        self.about().has_any_field
    }

    /// Which format a file has that begins with `head`, its first kilobytes; `None` if that is not clear. `Cidr` and `Ranges` are read as
    /// [`Format::Lines`].
    pub fn detect(head: &[u8]) -> Option<Self> {
        let head = input::without_mark(head);
        Self::ALL.iter().rev().copied().find(|format| (format.about().looks_like)(head))
    }

    /// Which format a file of this name has, for formats that cannot be told by their first kilobytes: a MaxMind database.
    pub fn of_file_name(name: &str) -> Option<Self> {
        name.rsplit_once('.').filter(|(_, extension)| extension.eq_ignore_ascii_case("mmdb")).map(|_| Self::Mmdb)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let format = Self::ALL.iter().copied().find(|format| format.name() == text);
        format.ok_or_else(|| UnknownFormat { found: edgefold_table::shorten(text) })
    }
}

/// A name that no format has.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no format {found:?}: there are {}", Format::ALL.iter().map(|format| format.name()).collect::<Vec<_>>().join(", "))]
pub struct UnknownFormat {
    found: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_maxmind_database_is_known_by_its_name() {
        for (name, format) in [
            ("GeoLite2-Country.mmdb", Some(Format::Mmdb)),
            ("feeds/asn.MMDB", Some(Format::Mmdb)),
            ("mmdb", None),
            ("asn.mmdb.gz", None),
            ("drop.json", None),
        ] {
            assert_eq!(Format::of_file_name(name), format, "{name}");
        }
    }

    #[test]
    fn json_of_others_is_not_taken_for_one_of_the_formats() {
        for head in [
            "{}",
            "[]",
            "{\"prefixes\": []}",
            "[{\"ip\": \"192.0.2.1\"}]",
            "{\"first\": 1, \"last\": 2, \"until\": 3}",
            "7",
        ] {
            assert_eq!(Format::detect(head.as_bytes()), None, "{head}");
        }
    }
}
