//! `make kafka` runs a real Kafka on 127.0.0.1 in the foreground, to try edgefold with.
#![allow(clippy::print_stdout, reason = "a program for people")]

use clap::Parser;
use edgefold_tests::Kafka;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Run a single-node Kafka until it is interrupted; what it has stored is removed then
#[derive(Parser)]
struct Arguments {
    /// The port on 127.0.0.1
    #[arg(long, default_value_t = 9092)]
    port: u16,
}

fn main() -> Result<(), std::io::Error> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let kafka = Kafka::start_on(Arguments::parse().port);
    println!("Kafka serves at {}; stop it with Ctrl-C. Now type, in another terminal:", kafka.brokers());
    println!("  export EDGEFOLD_LOG={}", kafka.log("edgefold"));
    println!("  edgefold init");
    signals.forever().next();
    kafka.stop();
    Ok(())
}
