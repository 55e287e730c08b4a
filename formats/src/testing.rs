//! What the tests of the formats share: blocks as texts, such as `192.0.2.0/24 until 2026-12-01T00:00:00Z`.

use edgefold::{Block, LogTime, Until};

use crate::{Format, ReadOptions, Wanted, WriteOptions, read, write};

/// The time at which tests read and write.
pub(crate) fn now() -> LogTime {
    "2026-11-26T12:00:00Z".parse().unwrap()
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
    let mut entries = Vec::new();
    let result = read(format, &mut file.as_ref(), &options, &mut |entry| {
        entries.push(match entry {
            Ok(Block { range, until: Until::FOREVER }) => range.shortest_text(),
            Ok(Block { range, until }) => format!("{} until {until}", range.shortest_text()),
            Err(bad) => format!("bad {bad}"),
        });
        true
    });
    result.map(|()| entries).map_err(|error| error.to_string())
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
