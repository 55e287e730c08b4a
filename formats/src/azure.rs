//! The service tags of Azure, `ServiceTags_Public_*.json`: `values`, each a tag with `addressPrefixes`. Most addresses are in several
//! tags, such as `AzureCloud`, `AzureCloud.westeurope` and `Storage.WestEurope`.

use std::io::BufRead;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::about::About;
use crate::elements::{each_element, each_inner, has_keys, is_value, without_position};
use crate::error::ReadError;
use crate::{EachEntry, Format, ReadOptions};

pub(crate) const ABOUT: About = About {
    name: "azure",
    describe: "the service tags of Azure",
    read: Some(read),
    fields: &["name", "region", "service"],
    looks_like,
    ..About::BASE
};

#[derive(Deserialize)]
#[serde(expecting = "an object with name and properties")]
struct Tag<'a> {
    name: String,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object with addressPrefixes")]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    region: Option<String>,
    system_service: Option<String>,
    /// There are ten thousand in the largest tag, so they are read one by one.
    #[serde(borrow)]
    address_prefixes: &'a RawValue,
}

fn looks_like(head: &[u8]) -> bool {
    has_keys(head, &["changeNumber", "values", "systemService", "addressPrefixes"])
}

fn read(input: &mut dyn BufRead, options: &ReadOptions, each: &mut EachEntry<'_>) -> Result<(), ReadError> {
    each_element(input, Format::Azure, &["values"], &mut |spot, text| {
        let tag: Tag<'_> = match spot.parse(text) {
            Ok(tag) => tag,
            Err(bad) => return each(Err(bad)),
        };
        let is_wanted = options.wanted.matches(|name, value| match name {
            "name" => is_value(Some(&tag.name), value),
            "region" => is_value(tag.properties.region.as_deref(), value),
            _ => is_value(tag.properties.system_service.as_deref(), value),
        });
        if !is_wanted {
            return true;
        }
        let prefixes = tag.properties.address_prefixes.get();
        let path = spot.path("properties.addressPrefixes");
        let goes_on = each_inner(prefixes, &path, &mut |spot, text| {
            each(spot.parse::<String>(text).and_then(|prefix| spot.block("", &prefix)))
        });
        goes_on.unwrap_or_else(|error| {
            each(Err(spot.bad("properties.addressPrefixes", prefixes, without_position(&error))))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Wanted;
    use crate::testing::{read_all, wanted};

    const FILE: &str = r#"{
  "changeNumber": 381,
  "cloud": "Public",
  "values": [
    {
      "name": "ActionGroup",
      "id": "ActionGroup",
      "properties": {
        "changeNumber": 58,
        "region": "",
        "regionId": 0,
        "platform": "Azure",
        "systemService": "ActionGroup",
        "addressPrefixes": [
          "192.0.2.52/30",
          "2001:db8:4::/64"
        ],
        "networkFeatures": ["API", "NSG", "UDR", "FW"]
      }
    },
    {
      "name": "Storage.WestEurope",
      "id": "Storage.WestEurope",
      "properties": {
        "changeNumber": 2,
        "region": "westeurope",
        "regionId": 18,
        "platform": "Azure",
        "systemService": "AzureStorage",
        "addressPrefixes": ["198.51.100.0/24"],
        "networkFeatures": null
      }
    }
  ]
}"#;

    #[test]
    fn tags_are_read_and_chosen() {
        let all = ["192.0.2.52/30", "2001:db8:4::/64", "198.51.100.0/24"];
        assert_eq!(read_all(Format::Azure, FILE, &Wanted::default()), Ok(all.map(Into::into).into()));
        for (name, value) in [("name", "storage.westeurope"), ("region", "westeurope"), ("service", "AzureStorage")] {
            assert_eq!(
                read_all(Format::Azure, FILE, &wanted(name, value)),
                Ok(vec!["198.51.100.0/24".into()]),
                "{name}"
            );
        }
        assert_eq!(Format::detect(FILE.as_bytes()), Some(Format::Azure));
    }

    #[test]
    fn bad_entries_are_said_with_their_paths_and_reading_goes_on() {
        let file = r#"{"values": [
            {"name": "A", "properties": {"addressPrefixes": ["192.0.2.0/24", "x", 7]}},
            {"name": "B", "properties": {"addressPrefixes": "192.0.2.0/24"}},
            {"name": "C"}, {"name": "D", "properties": {"addressPrefixes": ["203.0.113.7"]}}]}"#;
        let read = read_all(Format::Azure, file, &Wanted::default()).unwrap();
        let starts = [
            "192.0.2.0/24",
            "bad values[0].properties.addressPrefixes[1]: \"x\": \"x\" is not an IP address",
            "bad values[0].properties.addressPrefixes[2]: \"7\": invalid type: integer `7`, expected a string",
            "bad values[1].properties.addressPrefixes: \"\\\"192.0.2.0/24\\\"\": invalid type: string",
            "bad values[2]: \"{\\\"name\\\": \\\"C\\\"}\": missing field `properties`",
            "203.0.113.7",
        ];
        assert_eq!(read.len(), starts.len(), "{read:?}");
        for (read, start) in read.iter().zip(starts) {
            assert!(read.starts_with(start), "{read}");
        }
    }

    #[test]
    fn reading_stops_within_a_tag_when_no_more_is_wanted() {
        let mut entries = 0;
        crate::read(Format::Azure, &mut FILE.as_bytes(), &crate::ReadOptions::default(), &mut |_| {
            entries += 1;
            false
        })
        .unwrap();
        assert_eq!(entries, 1);
    }
}
