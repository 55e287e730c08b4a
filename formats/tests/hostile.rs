//! No file makes a reader panic, or read forever: files with bytes that were changed, cut off or repeated, and any bytes.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use edgefold_formats::{Block, Format, LogTime, ReadOptions, Until, WriteOptions, read, write};
use proptest::prelude::*;

/// Files of formats that are not written.
const READ_ONLY: &[(Format, &str)] = &[
    (Format::Dshield, "192.0.2.0\t192.0.2.255\t24\t4000\tEXAMPLE\tUS\tabuse@example.com\n"),
    (
        Format::SpamhausJson,
        "{\"cidr\":\"192.0.2.0/24\",\"sblid\":\"SBL1\",\"rir\":\"apnic\"}\n{\"type\":\"metadata\",\"records\":1}\n",
    ),
    (
        Format::Aws,
        r#"{"syncToken":"1","prefixes":[{"ip_prefix":"192.0.2.0/24","region":"x"}],"ipv6_prefixes":[{"ipv6_prefix":"2001:db8::/32"}]}"#,
    ),
    (
        Format::Gcp,
        r#"{"creationTime":"x","prefixes":[{"ipv4Prefix":"192.0.2.0/24","scope":"x"},{"ipv6Prefix":"2001:db8::/32"}]}"#,
    ),
    (
        Format::Azure,
        r#"{"values":[{"name":"x","properties":{"region":"","addressPrefixes":["192.0.2.0/24","2001:db8::/32"]}}]}"#,
    ),
    (
        Format::Crowdsec,
        r#"[{"decisions":[{"duration":"-3h59m49.012s","scope":"Ip","type":"ban","value":"192.0.2.1"}]},{"value":"2001:db8::1"}]"#,
    ),
    (
        Format::Crowdsec,
        "id,source,ip,reason,action,country,as,events_count,expiration,simulated,alert_id\n1,x,Ip:192.0.2.1,x,ban,US,\"A, B\",4,1h0m0s,false,1\n",
    ),
    (
        Format::Stix,
        r#"{"type":"bundle","id":"bundle--1","objects":[{"type":"indicator","pattern":"[ipv4-addr:value = '192.0.2.1' OR ipv6-addr:value IN ('2001:db8::/32', '2001:db9::')] OR [ipv4-addr:value ISSUBSET '192.0.2.0/24']","valid_until":"2026-12-01T00:00:00Z","labels":["x"]}]}"#,
    ),
];

fn now() -> LogTime {
    "2026-11-26T12:00:00Z".parse().unwrap()
}

fn files() -> Vec<(Format, Vec<u8>)> {
    let end: LogTime = "2026-12-01T00:00:00Z".parse().unwrap();
    let block = |range: &str, until| Block { range: range.parse().unwrap(), until };
    let blocks = [
        block("192.0.2.0/24", Until::FOREVER),
        block("198.51.100.1-198.51.100.9", end.into()),
        block("2001:db8::/32", end.into()),
        block("2001:db9::1", Until::FOREVER),
    ];
    let written = Format::ALL.iter().filter(|format| format.is_read() && format.is_written()).map(|format| {
        let mut file = Vec::new();
        let options = WriteOptions { now: now(), name: "tor-exits".to_owned() };
        write(*format, &mut blocks.iter().copied(), &options, &mut file).unwrap();
        (*format, file)
    });
    written.chain(READ_ONLY.iter().map(|(format, file)| (*format, file.as_bytes().to_vec()))).collect()
}

/// Reads a file, of which only what is not a panic counts.
fn read_to_end(format: Format, file: &[u8]) {
    let options = ReadOptions { now: now(), ..ReadOptions::default() };
    let mut entries = 0_usize;
    let _ = read(format, &mut &*file, &options, &mut |_| {
        entries += 1;
        true
    });
    assert!(entries <= 64 * (file.len() + 1), "{format}: {entries} entries of {} bytes", file.len());
}

/// A place in a file as a part of its length, and what to do there.
#[derive(Clone, Debug)]
enum Damage {
    Byte(f64, u8),
    Cut(f64),
    Repeat(f64, f64),
}

impl Damage {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn apply(&self, file: &mut Vec<u8>) {
        let at = |part: f64| (part * file.len() as f64) as usize;
        match *self {
            Self::Byte(part, byte) => {
                let at = at(part);
                file.splice(at..file.len().min(at + 1), [byte]);
            }
            Self::Cut(part) => file.truncate(at(part)),
            Self::Repeat(one, other) => {
                let part = file[at(one.min(other))..at(one.max(other))].to_vec();
                file.extend(part);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let meaningful = prop::sample::select(b"0123456789abf.:/-,;{}[]()\"'\\\n =#\0\xff".to_vec());
    prop_oneof![
        (0.0..1.0, prop_oneof![meaningful, any::<u8>()]).prop_map(|(part, byte)| Damage::Byte(part, byte)),
        (0.0..1.0).prop_map(Damage::Cut),
        (0.0..1.0, 0.0..1.0).prop_map(|(one, other)| Damage::Repeat(one, other)),
    ]
}

#[test]
fn every_format_that_is_read_has_a_file_here_that_it_reads() {
    for format in Format::ALL.iter().copied().filter(|format| format.is_read()) {
        let files: Vec<_> = files().into_iter().filter(|(of, _)| *of == format).collect();
        assert!(!files.is_empty(), "{format}");
        for (_, file) in files {
            let mut entries = Vec::new();
            read(format, &mut file.as_slice(), &ReadOptions { now: now(), ..ReadOptions::default() }, &mut |entry| {
                entries.push(entry);
                true
            })
            .unwrap();
            assert!(!entries.is_empty() && entries.iter().all(Result::is_ok), "{format}: {entries:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_damaged_file_causes_no_panic(damages in prop::collection::vec(damage(), 1..4)) {
        for (format, mut file) in files() {
            damages.iter().for_each(|damage| damage.apply(&mut file));
            read_to_end(format, &file);
            Format::detect(&file);
        }
    }

    #[test]
    fn a_file_of_another_format_causes_no_panic(file in prop::sample::select(files()), damage in damage()) {
        let (_, mut file) = file;
        damage.apply(&mut file);
        Format::ALL.iter().filter(|format| format.is_read()).for_each(|format| read_to_end(*format, &file));
    }

    #[test]
    fn a_reader_stops_when_no_more_is_wanted(damages in prop::collection::vec(damage(), 0..3), most in 1_usize..4) {
        for (format, mut file) in files() {
            damages.iter().for_each(|damage| damage.apply(&mut file));
            let options = ReadOptions { now: now(), ..ReadOptions::default() };
            let mut entries = 0;
            let _ = read(format, &mut file.as_slice(), &options, &mut |_| {
                entries += 1;
                entries < most
            });
            prop_assert!(entries <= most, "{}: {} entries", format, entries);
        }
    }

    #[test]
    fn any_bytes_cause_no_panic(file in prop::collection::vec(any::<u8>(), 0..200)) {
        Format::ALL.iter().filter(|format| format.is_read()).for_each(|format| read_to_end(*format, &file));
    }
}
