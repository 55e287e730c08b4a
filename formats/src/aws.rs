//! The addresses of AWS, `ip-ranges.json`: `prefixes` and `ipv6_prefixes`, each with its region, service and network border group.

use std::io::BufRead;

use serde::Deserialize;

use crate::about::About;
use crate::elements::{each_element, has_keys, is_value};
use crate::error::ReadError;
use crate::{EachEntry, Format, ReadOptions};

pub(crate) const ABOUT: About = About {
    name: "aws",
    describe: "the address ranges of AWS, ip-ranges.json",
    read: Some(read),
    fields: &["network_border_group", "region", "service"],
    looks_like,
    ..About::BASE
};

#[derive(Deserialize)]
#[serde(expecting = "an object with ip_prefix or ipv6_prefix")]
struct Prefix {
    ip_prefix: Option<String>,
    ipv6_prefix: Option<String>,
    network_border_group: Option<String>,
    region: Option<String>,
    service: Option<String>,
}

fn looks_like(head: &[u8]) -> bool {
    has_keys(head, &["syncToken", "prefixes"]) && (has_keys(head, &["ip_prefix"]) || has_keys(head, &["ipv6_prefix"]))
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_element(input, Format::Aws, &["prefixes", "ipv6_prefixes"], &mut |spot, text| {
        let prefix: Prefix = match spot.parse(text) {
            Ok(prefix) => prefix,
            Err(bad) => return each(Err(bad)),
        };
        let is_wanted = options.wanted.matches(|name, value| {
            let field = match name {
                "network_border_group" => &prefix.network_border_group,
                "region" => &prefix.region,
                _ => &prefix.service,
            };
            is_value(field.as_deref(), value)
        });
        if !is_wanted {
            return true;
        }
        spot.prefixes(text, [("ip_prefix", &prefix.ip_prefix), ("ipv6_prefix", &prefix.ipv6_prefix)], each)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wanted;
    use crate::testing::{read_all, wanted};

    const FILE: &str = r#"{
  "syncToken": "1758700000",
  "createDate": "2026-09-24-10-00-00",
  "prefixes": [
    {
      "ip_prefix": "192.0.2.0/24",
      "region": "ap-northeast-2",
      "service": "AMAZON",
      "network_border_group": "ap-northeast-2"
    },
    {
      "ip_prefix": "198.51.100.0/24",
      "region": "us-west-2",
      "service": "CLOUDFRONT",
      "network_border_group": "us-west-2-lax-1"
    }
  ],
  "ipv6_prefixes": [
    {
      "ipv6_prefix": "2001:db8::/32",
      "region": "us-west-2",
      "service": "AMAZON",
      "network_border_group": "us-west-2"
    }
  ]
}"#;

    #[test]
    fn prefixes_of_both_families_are_read_and_chosen_by_all_fields() {
        let all = ["192.0.2.0/24", "198.51.100.0/24", "2001:db8::/32"];
        assert_eq!(read_all(Format::Aws, FILE, &Wanted::default()), Ok(all.map(Into::into).into()));
        let mut west = wanted("region", "us-west-2");
        assert_eq!(read_all(Format::Aws, FILE, &west), Ok(all[1..].iter().map(|text| (*text).into()).collect()));
        west.add("service", "amazon");
        assert_eq!(read_all(Format::Aws, FILE, &west), Ok(vec!["2001:db8::/32".into()]));
        let lax = wanted("network_border_group", "us-west-2-lax-1");
        assert_eq!(read_all(Format::Aws, FILE, &lax), Ok(vec!["198.51.100.0/24".into()]));
        assert_eq!(Format::detect(FILE.as_bytes()), Some(Format::Aws));
    }

    #[test]
    fn an_entry_with_both_families_has_two_ranges() {
        let file = r#"{"prefixes": [{"ip_prefix": "192.0.2.0/24", "ipv6_prefix": "2001:db8::/32"}]}"#;
        let both = ["192.0.2.0/24", "2001:db8::/32"];
        assert_eq!(read_all(Format::Aws, file, &Wanted::default()), Ok(both.map(Into::into).into()));
    }

    #[test]
    fn bad_prefixes_are_said_with_their_paths() {
        let file =
            r#"{"prefixes": [{"ip_prefix": "192.0.2.0/33"}, {"region": "x"}], "ipv6_prefixes": [{"ipv6_prefix": 6}]}"#;
        let read = read_all(Format::Aws, file, &Wanted::default()).unwrap();
        let starts = [
            "bad prefixes[0].ip_prefix: \"192.0.2.0/33\": prefix length \"33\"",
            "bad prefixes[1]: \"{\\\"region\\\": \\\"x\\\"}\": it has no \"ip_prefix\"",
            "bad ipv6_prefixes[0]: ",
        ];
        assert_eq!(read.len(), starts.len(), "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(start), "{read}");
        }
    }

    #[test]
    fn a_field_that_entries_do_not_have_is_an_error() {
        let error = read_all(Format::Aws, FILE, &wanted("country", "RU")).unwrap_err();
        assert!(error.ends_with("they have network_border_group, region, service"), "{error}");
    }
}
