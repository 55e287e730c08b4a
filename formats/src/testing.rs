//! What the tests of all formats need: blocks as texts, such as `192.0.2.0/24 until 2026-12-01T00:00:00Z`, and tests of all of them.

use edgefold::{Block, Until};

use crate::{EachEntry, Format, LogTime, ReadError, ReadOptions, Wanted, WriteOptions, read, write};

pub(crate) const NOW: &str = "2026-11-26T12:00:00Z";

/// Reads a file, and returns its entries as text: `192.0.2.0/24`, `192.0.2.1 until 2026-11-26T12:05:00Z`, or what is wrong.
pub(crate) fn entries(format: Format, file: impl AsRef<[u8]>) -> Vec<String> {
    entries_with(format, file, &[]).unwrap()
}

/// As [`entries`], with the fields that are wanted.
pub(crate) fn entries_with(
    format: Format,
    file: impl AsRef<[u8]>,
    wanted: &[(&str, &str)],
) -> Result<Vec<String>, ReadError> {
    let mut options = ReadOptions { now: NOW.parse().unwrap(), ..ReadOptions::default() };
    options.wanted = Wanted::default();
    for (name, value) in wanted {
        options.wanted.add(*name, *value);
    }
    entries_of(format, file.as_ref(), &options)
}

pub(crate) fn entries_of(format: Format, file: &[u8], options: &ReadOptions) -> Result<Vec<String>, ReadError> {
    texts_of(format, file, options, "")
}

/// As [`entries_of`], with a word before each bad entry.
fn texts_of(format: Format, mut file: &[u8], options: &ReadOptions, bad: &str) -> Result<Vec<String>, ReadError> {
    let mut found = Vec::new();
    let each: &mut EachEntry<'_> = &mut |entry| {
        found.push(match entry {
            Ok(block) => match block.until.time() {
                Some(until) => format!("{} until {until}", block.range.shortest_text()),
                None => block.range.shortest_text(),
            },
            Err(entry) => format!("{bad}{entry}"),
        });
        true
    };
    read(format, &mut file, options, each)?;
    Ok(found)
}

/// The end of what lasts this many seconds.
pub(crate) fn in_seconds(seconds: u64) -> String {
    let now: LogTime = NOW.parse().unwrap();
    now.checked_add(std::time::Duration::from_secs(seconds)).unwrap().to_string()
}

/// Asserts that the entries are what is expected. Of errors, a part is enough, which has `: `.
#[track_caller]
pub(crate) fn assert_entries(found: &[String], expected: &[&str]) {
    let is_same = |(found, expected): (&String, &&str)| {
        found == expected
            || (found.contains(": ")
                && expected.contains(": ")
                && expected.split(" ... ").all(|part| found.contains(part)))
    };
    let all = found.len() == expected.len() && found.iter().zip(expected).all(is_same);
    assert!(all, "found {found:#?}, expected {expected:#?}");
}

/// The time at which tests read and write.
pub(crate) fn now() -> LogTime {
    NOW.parse().unwrap()
}

pub(crate) fn wanted(name: &str, value: &str) -> Wanted {
    let mut wanted = Wanted::default();
    wanted.add(name, value);
    wanted
}

pub(crate) fn blocks(texts: &[&str]) -> Vec<Block> {
    texts
        .iter()
        .map(|text| {
            let (range, until) =
                text.split_once(" until ").map_or((*text, None), |(range, until)| (range, Some(until)));
            let until = until.map_or(Until::FOREVER, |until| until.parse::<LogTime>().unwrap().into());
            Block { range: range.parse().unwrap(), until }
        })
        .collect()
}

/// The entries of a file as texts, or the error as text. A bad entry begins with `bad`.
pub(crate) fn read_all(format: Format, file: impl AsRef<[u8]>, wanted: &Wanted) -> Result<Vec<String>, String> {
    let options = ReadOptions { now: now(), wanted: wanted.clone(), ..ReadOptions::default() };
    texts_of(format, file.as_ref(), &options, "bad ").map_err(|error| error.to_string())
}

pub(crate) fn written_bytes(format: Format, blocks: &[Block]) -> Vec<u8> {
    let options = WriteOptions { now: now(), name: "default".to_owned() };
    let mut out = Vec::new();
    write(format, &mut blocks.iter().copied(), &options, &mut out).unwrap();
    out
}

pub(crate) fn written(format: Format, blocks: &[Block]) -> String {
    String::from_utf8(written_bytes(format, blocks)).unwrap()
}

/// What is read of `texts` written in a format. CIDR blocks that were one range stay apart.
pub(crate) fn round_trip(format: Format, texts: &[&str]) -> Vec<String> {
    read_all(format, written_bytes(format, &blocks(texts)), &Wanted::default()).unwrap()
}

/// Files that no format must hang, panic or use much memory on.
pub(crate) fn hostile() -> Vec<Vec<u8>> {
    let mut files = vec![Vec::new(), b"\xff\xfe\0\x01".to_vec(), vec![0; 1 << 20], b"\"".to_vec(), b"\\".to_vec()];
    for piece in [
        "{",
        "}",
        "\"",
        "'",
        "a ",
        "192.0.2.0/24 ",
        ",",
        "\\\n",
        ";",
        "[",
        "geo $a {",
        "/*",
        "set a { elements = { ",
        "1",
        "/",
        "-",
        ":",
    ] {
        files.push(piece.repeat(1 << 16).into_bytes());
    }
    files
}

#[test]
fn hostile_files_end_in_errors() {
    for format in Format::ALL.iter().copied().filter(|format| format.is_read()) {
        for file in hostile() {
            let mut entries = 0_u32;
            let each: &mut EachEntry<'_> = &mut |entry| {
                if let Err(bad) = entry {
                    assert!(bad.text.chars().count() <= 64 && bad.why.len() <= 1000, "{format}: {bad}");
                }
                entries += 1;
                entries < 1000
            };
            // Any answer is right that comes soon.
            let _ = read(format, &mut file.as_slice(), &ReadOptions::default(), each);
            let _ = Format::detect(&file);
        }
    }
}

#[test]
fn files_are_recognized_by_what_they_begin_with() {
    for (head, format) in [
        ("# a netset\n#\n192.0.2.0/24\n", Some(Format::Lines)),
        ("; Spamhaus DROP List\n192.0.2.0/24 ; SBL123\n", Some(Format::Lines)),
        ("192.0.2.1", Some(Format::Lines)),
        ("2001:db8::/32\n", Some(Format::Lines)),
        ("create a hash:net family inet\nadd a 192.0.2.0/24\n", Some(Format::Ipset)),
        ("add a 192.0.2.0/24\n", Some(Format::Ipset)),
        ("table inet filter {\n\tset a {\n", Some(Format::Nftables)),
        ("#!/usr/sbin/nft -f\n\nflush ruleset\n", Some(Format::Nftables)),
        ("elements = { 192.0.2.1,\n", Some(Format::Nftables)),
        ("{\"nftables\": [{\"metainfo\"", Some(Format::NftablesJson)),
        ("{ \"nftables\" : [", Some(Format::NftablesJson)),
        ("# x\ndeny 192.0.2.0/24;\n", Some(Format::NginxDeny)),
        ("geo $blocked {\n  default 0;\n", Some(Format::NginxGeo)),
        ("geo $remote_addr $blocked {\n", Some(Format::NginxGeo)),
        ("192.0.2.0/24 blocked\n198.51.100.0/24 blocked\n", Some(Format::HaproxyMap)),
        ("127.0.0.1 localhost\n", None),
        ("/ip firewall address-list\nadd address=192.0.2.1 list=a\n", Some(Format::Mikrotik)),
        ("# by RouterOS 7\n/ip/firewall/address-list add address=192.0.2.1 list=a\n", Some(Format::Mikrotik)),
        ("network 192.0.2.0/24,\n", Some(Format::F5)),
        ("ltm data-group internal /Common/a {\n", Some(Format::F5)),
        ("!\nip prefix-list A seq 5 permit 192.0.2.0/24\n", Some(Format::Cisco)),
        ("access-list 10 deny 192.0.2.0 0.0.0.255\n", Some(Format::Cisco)),
        ("set policy-options prefix-list A 192.0.2.0/24\n", Some(Format::Juniper)),
        ("policy-options {\n    prefix-list A {\n", Some(Format::Juniper)),
        ("first,last,until\n192.0.2.0,192.0.2.255,\n", Some(Format::Csv)),
        ("ip\n192.0.2.1\n", Some(Format::Csv)),
        ("# Firstseen,DstIP,DstPort\n2026-11-26 00:00:00,192.0.2.1,443\n", Some(Format::Csv)),
        ("# x\nStart\tEnd\tNetblock\tAttacks\tName\tCountry\temail\n", Some(Format::Dshield)),
        ("", None),
        ("hello world\n", None),
        ("<html>\n<head>192.0.2.1</head>\n", None),
        ("{\"prefixes\": []}", None),
    ] {
        assert_eq!(Format::detect(head.as_bytes()), format, "{head}");
    }
    assert_eq!(Format::detect(b"\x00\x01\xab\xcd\xefMaxMind.com"), None);
}

#[test]
fn what_is_written_is_recognized() {
    let block = |range: &str| crate::Block { range: range.parse().unwrap(), until: crate::Until::FOREVER };
    for format in Format::ALL.iter().copied().filter(|format| format.is_written() && format.is_read()) {
        let mut file = Vec::new();
        let options = crate::WriteOptions { now: NOW.parse().unwrap(), name: "tor-exits".to_owned() };
        let mut blocks = [block("192.0.2.0/24"), block("198.51.100.7"), block("2001:db8::/32")].into_iter();
        crate::write(format, &mut blocks, &options, &mut file).unwrap();
        let expected = match format {
            // It says what it is at its end.
            Format::Mmdb => continue,
            // They have the lines of others.
            Format::Cidr | Format::Ranges | Format::HaproxyAcl => Format::Lines,
            format => format,
        };
        assert_eq!(Format::detect(&file), Some(expected), "{format}");
    }
}

proptest::proptest! {
    #[test]
    fn files_of_random_pieces_are_read_without_a_panic(
        pieces in proptest::collection::vec((0_usize..60, proptest::prelude::any::<[u8; 3]>()), 0..60),
    ) {
        const PIECES: &[&str] = &[
            " ", "\n", "\t", ";", ",", "{", "}", "=", "\"", "'", "\\", "\\\n", "#", "!", "/*", "*/", "/", "-", ":", ":=", "[", "]", "add", "create",
            "hash:net", "timeout 5", "nomatch", "table inet a {", "set s {", "type ipv4_addr", "elements = {", "192.0.2.0/24", "192.0.2.1",
            "192.0.2.7/24", "2001:db8::/32", "::ffff:192.0.2.1", "0.0.0.0/0", "192.0.2.1-192.0.2.9", "deny", "allow all;", "geo $a {", "default 1;",
            "ranges;", "delete", "/ip firewall address-list", "address=192.0.2.1", "list=a", "network", "host", "ltm data-group internal a {",
            "records {", "ip prefix-list A permit", "access-list 10 deny", "0.0.0.255", "object-group network A",
            "set policy-options prefix-list a", "ip,until\n", "{\"nftables\": [", "{\"set\": {\"elem\": [", "\u{feff}",
        ];
        let mut file = Vec::new();
        for (piece, bytes) in pieces {
            match PIECES.get(piece) {
                Some(piece) => file.extend_from_slice(piece.as_bytes()),
                None => file.extend(bytes),
            }
            if bytes[0] % 2 == 0 {
                file.push(b' ');
            }
        }
        let mut options = ReadOptions { now: NOW.parse().unwrap(), ..ReadOptions::default() };
        for format in Format::ALL.iter().copied().filter(|format| format.is_read()) {
            options.wanted = Wanted::default();
            let _ = entries_of(format, &file, &options);
            if let [field, ..] = format.fields() {
                options.wanted.add(*field, "a");
                let _ = entries_of(format, &file, &options);
            }
        }
        let _ = Format::detect(&file);
    }
}
