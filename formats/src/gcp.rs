//! The addresses of Google, `cloud.json` (with a service and a scope) and `goog.json`: `prefixes`, each with an `ipv4Prefix` or an
//! `ipv6Prefix`. The lists of its crawlers, and Bing's, have the same form.

use std::io::BufRead;

use serde::Deserialize;

use crate::about::About;
use crate::elements::{each_element, has_keys, is_value};
use crate::error::ReadError;
use crate::{EachEntry, Format, ReadOptions};

pub(crate) const ABOUT: About = About {
    name: "gcp",
    describe: "the address ranges of Google, cloud.json or goog.json",
    read: Some(read),
    fields: &["scope", "service"],
    looks_like,
    ..About::BASE
};

#[derive(Deserialize)]
#[serde(expecting = "an object with ipv4Prefix or ipv6Prefix")]
#[serde(rename_all = "camelCase")]
struct Prefix {
    ipv4_prefix: Option<String>,
    ipv6_prefix: Option<String>,
    scope: Option<String>,
    service: Option<String>,
}

fn looks_like(head: &[u8]) -> bool {
    has_keys(head, &["creationTime", "prefixes"])
        && (has_keys(head, &["ipv4Prefix"]) || has_keys(head, &["ipv6Prefix"]))
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_element(input, Format::Gcp, &["prefixes"], &mut |spot, text| {
        let prefix: Prefix = match spot.parse(text) {
            Ok(prefix) => prefix,
            Err(bad) => return each(Err(bad)),
        };
        let is_wanted = options.wanted.matches(|name, value| {
            let field = if name == "scope" { &prefix.scope } else { &prefix.service };
            is_value(field.as_deref(), value)
        });
        if !is_wanted {
            return true;
        }
        spot.prefixes(text, [("ipv4Prefix", &prefix.ipv4_prefix), ("ipv6Prefix", &prefix.ipv6_prefix)], each)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wanted;
    use crate::testing::{read_all, wanted};

    const CLOUD: &str = r#"{
  "syncToken": "1758709970630",
  "creationTime": "2026-09-24T01:06:10.63098",
  "prefixes": [{
    "ipv4Prefix": "192.0.2.0/24",
    "service": "Google Cloud",
    "scope": "africa-south1"
  }, {
    "ipv6Prefix": "2001:db8::/32",
    "service": "Google Cloud",
    "scope": "asia-east1"
  }]
}"#;
    const GOOG: &str = r#"{"syncToken": "1758709970630", "creationTime": "2026-09-24T01:06:10.63098",
        "prefixes": [{"ipv4Prefix": "198.51.100.0/24"}, {"ipv6Prefix": "2001:db8:1::/48"}]}"#;

    #[test]
    fn both_lists_are_read() {
        let cloud = ["192.0.2.0/24", "2001:db8::/32"];
        assert_eq!(read_all(Format::Gcp, CLOUD, &Wanted::default()), Ok(cloud.map(Into::into).into()));
        let goog = ["198.51.100.0/24", "2001:db8:1::/48"];
        assert_eq!(read_all(Format::Gcp, GOOG, &Wanted::default()), Ok(goog.map(Into::into).into()));
        assert_eq!([CLOUD, GOOG].map(|file| Format::detect(file.as_bytes())), [Some(Format::Gcp); 2]);
    }

    #[test]
    fn entries_are_chosen_by_scope_and_service() {
        let mut asia = wanted("scope", "asia-east1");
        asia.add("service", "google cloud");
        assert_eq!(read_all(Format::Gcp, CLOUD, &asia), Ok(vec!["2001:db8::/32".into()]));
        assert_eq!(read_all(Format::Gcp, GOOG, &asia), Ok(vec![]), "no entry says its scope");
    }

    #[test]
    fn an_entry_with_both_families_has_two_ranges() {
        let file = r#"{"prefixes": [{"ipv4Prefix": "192.0.2.0/24", "ipv6Prefix": "2001:db8::/32"}]}"#;
        let both = ["192.0.2.0/24", "2001:db8::/32"];
        assert_eq!(read_all(Format::Gcp, file, &Wanted::default()), Ok(both.map(Into::into).into()));
    }

    #[test]
    fn bad_prefixes_are_said_with_their_paths() {
        let file = r#"{"prefixes": [{"ipv4Prefix": "192.0.2.1/24"}, {}, ["x"]]}"#;
        let read = read_all(Format::Gcp, file, &Wanted::default()).unwrap();
        let starts = [
            "bad prefixes[0].ipv4Prefix: \"192.0.2.1/24\": 192.0.2.1/24 has host bits set",
            "bad prefixes[1]: \"{}\": it has no \"ipv4Prefix\"",
            "bad prefixes[2]: ",
        ];
        assert_eq!(read.len(), starts.len(), "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(start), "{read}");
        }
    }
}
