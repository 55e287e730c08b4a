//! `make demo` plays the story of one blocked range, over a real log and through a real Envoy. `make up` leaves everything
//! running instead.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::any::Any;
use std::io::{IsTerminal, stdin};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
#[cfg(feature = "kafka")]
use edgefold_tests::Kafka;
use edgefold_tests::{Client, Edgefold, Envoy, EnvoyOptions};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Play the story of edgefold, each step with the time from command to effect
#[derive(Parser)]
struct Arguments {
    /// The log to play it over
    #[arg(long, default_value = "sqlite")]
    log: Log,
    /// Leave everything running until it is interrupted, and say what to type
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
    // The story has its own thread, which owns all processes. The demo ends when the story ends, when a panic of the harness
    // ends it, or at a signal.
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
            Err(_) if story.is_finished() => break Some(Err("the harness failed".to_owned())),
            Err(_) => {}
        }
    };
    drop(stop);
    // The processes end when the story's thread does.
    let _ended = story.join();
    match result {
        None | Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Arguments, stopped: &mpsc::Receiver<()>) -> Result<(), String> {
    let (edgefold, _broker) = create_log(arguments.log)?;
    let serve = edgefold.serve(&[]);
    let (port, admin_port) = if arguments.stay { (10000, 9901) } else { (0, 0) };
    let envoy = edgefold.envoy(EnvoyOptions { port, admin_port, ..EnvoyOptions::HTTP });
    println!("log       {}", edgefold.log());
    println!("Envoy     http://{}/, in front of a small upstream", envoy.address());
    println!("page      {}/, which shows the log as a map", serve.admin_url());
    if arguments.stay {
        say_what_to_type(&edgefold, &envoy);
        let _closed = stopped.recv();
        return Ok(());
    }
    let client = envoy.client("127.0.0.100");
    let neighbour = envoy.client("127.0.0.101");
    println!("clients   127.0.0.100 and its neighbour 127.0.0.101\n");
    expect("127.0.0.100 asks", &client, 200)?;
    wait_for_enter("Open the page now, to see the next command on the map as it happens. Then press Enter.");
    step(&edgefold, &["block", "127.0.0.64/26", "--reason", "demo"], &client, 403)?;
    expect("127.0.0.101 asks", &neighbour, 403)?;
    step(&edgefold, &["allow", "127.0.0.100"], &client, 200)?;
    expect("127.0.0.101 asks", &neighbour, 403)?;
    println!("\nall as it should be");
    wait_for_enter(
        "On the page, search for 127.0.0.100 to see why it passes, and for 127.0.0.101. Press Enter to end.",
    );
    Ok(())
}

/// Gives whoever runs this at a terminal the time to look.
fn wait_for_enter(why: &str) {
    if stdin().is_terminal() {
        println!("\n{why}");
        let _read = stdin().read_line(&mut String::new());
    }
}

/// Creates the log. Returns it with its broker, which stops when it is dropped.
fn create_log(log: Log) -> Result<(Edgefold, Option<Box<dyn Any>>), String> {
    match log {
        Log::Sqlite => Ok((Edgefold::sqlite(), None)),
        #[cfg(feature = "kafka")]
        Log::Kafka => {
            let kafka = Kafka::start();
            Ok((Edgefold::kafka(&kafka, "demo"), Some(Box::new(kafka))))
        }
        #[cfg(not(feature = "kafka"))]
        Log::Kafka => Err("this demo was built without Kafka: build it and edgefold with --features kafka".to_owned()),
    }
}

/// Runs a command, and waits until `client` gets `status`. Prints how long that took since the command was started, and since
/// it returned: the log has had it since then.
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
    println!("\nEverything is running; stop it with Ctrl-C. Now type, in another terminal:\n");
    println!("  export EDGEFOLD_LOG={}", edgefold.log());
    println!("  alias edgefold={}", edgefold.binary().display());
    println!("  curl --interface 127.0.0.100 http://{}/", envoy.address());
    println!("  edgefold block 127.0.0.64/26 --ttl 10m --reason 'a trial'");
    println!("  curl --interface 127.0.0.100 http://{}/", envoy.address());
    println!("  edgefold list; edgefold check 127.0.0.100");
    println!("  edgefold allow 127.0.0.100");
}
