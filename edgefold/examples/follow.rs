//! Follows a log, and says for each address on stdin whether it is blocked.
//!
//! ```text
//! cargo run --package edgefold --example follow -- kafka://broker:9092/edgefold
//! cargo run --package edgefold --example follow --no-default-features --features sqlite -- sqlite:edgefold.db
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::error::Error;
use std::io::stdin;
use std::net::IpAddr;

use edgefold::{Blocklist, Listing, LogUrl, Verdict};

fn main() {
    if let Err(error) = run() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).ok_or("give the URL of a log: sqlite:PATH or kafka://HOST:PORT/PREFIX")?;
    let log: LogUrl = url.parse()?;
    let blocklist = Blocklist::follow(log.open()?)?;
    eprintln!("following {url} from {}; type an address", blocklist.position());

    for line in stdin().lines() {
        let line = line?;
        let ip: IpAddr = match line.trim().parse() {
            Ok(ip) => ip,
            Err(error) => {
                eprintln!("{line}: {error}");
                continue;
            }
        };
        match blocklist.get(ip) {
            Verdict::Deny(Listing { list, block }) => {
                println!("{ip}: blocked by {} of list {list}, until {}", block.range, block.until);
            }
            Verdict::Exempt(Listing { list, .. }) => println!("{ip}: not blocked, because list {list} exempts it"),
            Verdict::Mark { .. } | Verdict::Pass => println!("{ip}: not blocked"),
        }
        if let Some(trouble) = blocklist.status().trouble {
            eprintln!("this is the state of {}: {trouble}", blocklist.status().last_contact);
        }
    }
    Ok(())
}
