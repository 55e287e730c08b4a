//! The commands in the documents are run, and what they print is compared.
//!
//! A block of ```console has lines that begin with `$ `, each a command for a shell, followed by what it prints, stdout and stderr together.
//! The commands of a document run one after the other, in one empty folder, with a new log. A line `...` stands for any number of lines, and
//! times are not compared. `EDGEFOLD_WRITE_DOCUMENTS=1` writes what was printed into the documents instead.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use edgefold_tests::{Edgefold, workspace};

const START: &str = "```console";
const END: &str = "```";

/// Runs one command as the reader would, and returns what it prints.
fn run(command: &str, folder: &Path, binary: &Path) -> String {
    let path = format!("{}:{}", binary.parent().unwrap().display(), env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).current_dir(folder).env("PATH", path).env("TZ", "UTC");
    shell
        .env("EDGEFOLD_CONFIG", "")
        .env("EDGEFOLD_CACHE", folder.join("cache"))
        .env_remove("EDGEFOLD_LOG")
        .env_remove("SSH_CLIENT")
        .stdin(Stdio::null());
    String::from_utf8(shell.output().unwrap().stdout).unwrap()
}

/// The text with `TIME` for each time of RFC 3339.
fn without_times(text: &str) -> String {
    let mut rest = text;
    let mut result = String::new();
    while let Some(first) = rest.chars().next() {
        match time_length(rest) {
            Some(length) => {
                result += "TIME";
                rest = &rest[length..];
            }
            None => {
                result.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    result
}

fn time_length(text: &str) -> Option<usize> {
    let form = b"0000-00-00T00:00:00";
    let bytes = text.as_bytes();
    let has_form = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if bytes.len() < form.len() || !bytes.iter().zip(form).all(has_form) {
        return None;
    }
    let rest = &text[form.len()..];
    let fraction = rest.strip_prefix('.').map_or(0, |digits| 1 + digits.bytes().take_while(u8::is_ascii_digit).count());
    let zone = &rest[fraction..];
    let zone = if zone.starts_with('Z') { 1 } else { 0 };
    Some(form.len() + fraction + zone)
}

/// Whether `found` is what the lines say. `...` is any number of lines.
fn is_same(expected: &[&str], found: &[&str]) -> bool {
    match expected.split_first() {
        None => found.is_empty(),
        Some((&"...", rest)) => (0..=found.len()).any(|skipped| is_same(rest, &found[skipped..])),
        Some((line, rest)) => {
            found.first().is_some_and(|first| without_times(first) == without_times(line)) && is_same(rest, &found[1..])
        }
    }
}

#[track_caller]
fn check(document: &str) {
    let path = workspace().join(document);
    let text = fs::read_to_string(&path).unwrap();
    let edgefold = Edgefold::uninitialized();
    let folder = edgefold.path("reader");
    fs::create_dir(&folder).unwrap();
    let (mut written, mut wrong, mut commands) = (String::new(), String::new(), 0);
    let mut lines = text.lines().peekable();
    let mut is_in_block = false;
    while let Some(line) = lines.next() {
        writeln!(written, "{line}").unwrap();
        if !is_in_block {
            is_in_block = line == START;
            continue;
        }
        if line == END {
            is_in_block = false;
            continue;
        }
        let Some(command) = line.strip_prefix("$ ") else { panic!("{document}: {line:?} is after no command") };
        let mut command = command.to_owned();
        // A command goes on in the next line, as in a shell.
        while command.ends_with('\\') {
            let next = lines.next().unwrap();
            writeln!(written, "{next}").unwrap();
            command = format!("{command}\n{}", next.trim_start_matches("> "));
        }
        let mut expected = Vec::new();
        while let Some(output) = lines.next_if(|next| *next != END && !next.starts_with("$ ")) {
            expected.push(output);
        }
        let found = run(&command, Path::new(&folder), edgefold.binary());
        commands += 1;
        let found_lines: Vec<&str> = found.lines().map(str::trim_end).collect();
        let is_written = env::var_os("EDGEFOLD_WRITE_DOCUMENTS").is_some();
        // What is written is of one run, so that its times fit each other.
        let is_kept = is_same(&expected, &found_lines) && (!is_written || expected.contains(&"..."));
        if is_kept {
            expected.iter().for_each(|line| writeln!(written, "{line}").unwrap());
        } else {
            found_lines.iter().for_each(|line| writeln!(written, "{line}").unwrap());
            writeln!(wrong, "{document}: {command}\nprints\n{found}instead of\n{}\n", expected.join("\n")).unwrap();
        }
    }
    assert!(commands > 0, "{document} has no block of {START}");
    if env::var_os("EDGEFOLD_WRITE_DOCUMENTS").is_some() {
        fs::write(path, written).unwrap();
    } else {
        assert!(wrong.is_empty(), "{wrong}");
    }
}

#[test]
fn the_guide() {
    check("docs/guide.md");
}

#[test]
fn lists_and_feeds() {
    check("docs/lists.md");
}

/// Commands that are shown elsewhere, and cannot be run without a fleet, a Kafka or an Envoy: at least their flags exist.
#[test]
fn commands_in_other_documents_are_valid() {
    let documents = fs::read_dir(workspace().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = documents.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let edgefold = Edgefold::uninitialized();
    let mut commands = 0;
    for document in documents.chain([workspace().join("README.md")]) {
        let text = fs::read_to_string(&document).unwrap();
        let mut is_in_block = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                is_in_block = !is_in_block;
                continue;
            }
            let Some(command) = line.strip_prefix("edgefold ").filter(|_| is_in_block) else { continue };
            // Without comments, pipes and files to write; without a log, nothing is changed anywhere.
            let command = command.split(['#', '|', '>', '&', '\\']).next().unwrap();
            if command.starts_with("man ") {
                continue;
            }
            let folder = tempfile::tempdir().unwrap();
            let shell = format!("edgefold {command}; echo status $?");
            let printed = run(&shell, folder.path(), edgefold.binary());
            assert!(!printed.ends_with("status 64\n"), "{}: {line}\n{printed}", document.display());
            commands += 1;
        }
    }
    assert!(commands > 20, "{commands}");
}

#[test]
fn times_are_not_compared_and_dots_stand_for_lines() {
    assert_eq!(without_times("at 2026-11-26T10:00:00Z, 2026-11-26T10:00:00.123Z"), "at TIME, TIME");
    assert!(is_same(&["a 2026-11-26T10:00:00Z", "...", "z"], &["a 2020-01-01T00:00:00.5Z", "b", "c", "z"]));
    assert!(!is_same(&["a", "...", "z"], &["a", "b"]));
}
