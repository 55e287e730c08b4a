//! A second reader of the format, in Python and written from docs/format.md alone, reads what edgefold writes.

#[path = "../../table/tests/samples/mod.rs"]
mod samples;

use std::fmt::Write as _;
use std::process::Command;

use edgefold_table::{Generation, Settings, Snapshot};
use samples::{Sample, samples};

#[test]
fn a_decoder_from_the_document_alone_reads_every_kind_of_chunk() {
    let decoder = concat!(env!("CARGO_MANIFEST_DIR"), "/decode_snapshot.py");
    let folder = tempfile::tempdir().unwrap();
    for Sample { name, ranges } in samples() {
        let generation = Generation { next_offset: 300, expiry: Some(70_000) };
        let snapshot = Snapshot::build("edgefold", generation, 70_000, Settings::default(), ranges.clone()).unwrap();
        let file = folder.path().join("snapshot");
        std::fs::write(&file, snapshot).unwrap();
        let output = Command::new("python3").arg(decoder).arg(&file).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));

        let v4 = ranges.iter().filter(|range| range.first().is_ipv4()).count();
        let mut expected = format!(
            "# list=edgefold next_offset=300 expiry=70000 as_of=70000 ipv4={v4} ipv6={} no_address=allow\n",
            ranges.len() - v4
        );
        for range in &ranges {
            writeln!(expected, "{}\t{}", range.first(), range.last()).unwrap();
        }
        let decoded = String::from_utf8(output.stdout).unwrap();
        for (line, (decoded, expected)) in decoded.lines().zip(expected.lines()).enumerate() {
            assert_eq!(decoded, expected, "{name}, line {}", line + 1);
        }
        assert_eq!(decoded.len(), expected.len(), "{name}");
    }
}
