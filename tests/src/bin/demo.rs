//! `make demo`: the story of one blocked range, over a real log and through a real Envoy. `make up` stays instead.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use edgefold_tests::{Client, Edgefold, Envoy, EnvoyOptions, Kafka};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Play the story of edgefold, each step with the time from command to effect
#[derive(Parser)]
struct Arguments {
    /// The log to play it over
    #[arg(long, default_value = "sqlite")]
    log: Log,
    /// Leave all of it running until it is interrupted, and say what to type
    #[arg(long)]
    stay: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Log {
    Sqlite,
    Kafka,
}

/// How long an effect may take before the demo calls it a failure.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (done, outcome) = mpsc::channel();
    let interrupted = done.clone();
    let mut signals = match Signals::new([SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => panic!("cannot handle signals: {error}"),
    };
    // The story has its own thread, which owns all that runs. Whatever ends first ends the demo: the story, by itself or by a
    // panic of a harness, which drops its sender, or a signal.
    let (stop, stopped) = mpsc::channel::<()>();
    let story = thread::spawn(move || {
        let result = play(&arguments, &stopped);
        let _received = done.send(Some(result));
    });
    thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _received = interrupted.send(None);
        }
    });
    let result = loop {
        match outcome.recv_timeout(Duration::from_millis(100)) {
            Ok(result) => break result,
            Err(_) if story.is_finished() => break Some(Err("a harness failed".to_owned())),
            Err(_) => {}
        }
    };
    drop(stop);
    // The story drops what runs when it ends.
    let _ended = story.join();
    match result {
        None => ExitCode::SUCCESS,
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Arguments, stopped: &mpsc::Receiver<()>) -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let kafka = match arguments.log {
        Log::Kafka => Some(Kafka::start()),
        Log::Sqlite => None,
    };
    let edgefold = match &kafka {
        Some(kafka) => Edgefold::new(&kafka.log("demo"), directory.path()),
        None => Edgefold::sqlite(directory.path()),
    };
    edgefold.run(&["init"]);
    let _serve = edgefold.serve(&[]);
    let ports = if arguments.stay { (10000, 9901) } else { (0, 0) };
    let options = EnvoyOptions { port: ports.0, admin_port: ports.1, ..EnvoyOptions::default() };
    let envoy = Envoy::start(directory.path(), &edgefold.ecds_file(), options);
    println!("log       {}", edgefold.log());
    println!("Envoy     http://{}/, in front of a small upstream", envoy.address());
    if arguments.stay {
        say_what_to_type(&edgefold, &envoy);
        let _closed = stopped.recv();
        return Ok(());
    }
    let client = envoy.client("127.0.0.100");
    let neighbour = envoy.client("127.0.0.101");
    println!("clients   127.0.0.100 and its neighbour 127.0.0.101\n");
    expect("127.0.0.100 asks", &client, 200)?;
    step(&edgefold, &["block", "127.0.0.64/26", "--reason", "demo"], &client, 403)?;
    expect("127.0.0.101 asks", &neighbour, 403)?;
    step(&edgefold, &["allow", "127.0.0.100"], &client, 200)?;
    expect("127.0.0.101 asks", &neighbour, 403)?;
    println!("\nall as it should be");
    Ok(())
}

/// Runs a command, and waits until `client` gets `status`: with the time from its start, and from when it returned, since the
/// log has it then.
fn step(edgefold: &Edgefold, command: &[&str], client: &Client, status: u16) -> Result<(), String> {
    let started = Instant::now();
    edgefold.run(command);
    let returned = Instant::now();
    while client.get().0 != status {
        if returned.elapsed() > PATIENCE {
            return Err(format!("no {status} within {PATIENCE:?} of edgefold {}", command.join(" ")));
        }
    }
    let (whole, after) = (started.elapsed().as_millis(), returned.elapsed().as_millis());
    println!(
        "edgefold {:<40} {status} {after} ms after the log had it ({whole} ms with the command)",
        command.join(" ")
    );
    Ok(())
}

fn expect(what: &str, client: &Client, status: u16) -> Result<(), String> {
    let (found, body) = client.get();
    println!("{what:<49} {found} {}", body.trim());
    if found == status { Ok(()) } else { Err(format!("{what}: {found} instead of {status}")) }
}

fn say_what_to_type(edgefold: &Edgefold, envoy: &Envoy) {
    println!("\nAll of it runs; stop it with Ctrl-C. Now type, elsewhere:\n");
    println!("  export EDGEFOLD_LOG={}", edgefold.log());
    println!("  alias edgefold={}", edgefold.binary().display());
    println!("  curl --interface 127.0.0.100 http://{}/", envoy.address());
    println!("  edgefold block 127.0.0.64/26 --ttl 10m --reason 'a trial'");
    println!("  curl --interface 127.0.0.100 http://{}/", envoy.address());
    println!("  edgefold list; edgefold check 127.0.0.100");
    println!("  edgefold allow 127.0.0.100");
}
