//! A real single-node Apache Kafka (KRaft).

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tempfile::TempDir;

use crate::process::Process;
use crate::{free_ports, tool};

/// A running broker; what it stores goes with it.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    _directory: TempDir,
    port: u16,
}

impl Kafka {
    /// Starts a broker on a free port, and waits until it serves.
    pub fn start() -> Self {
        let [port, controller_port] = free_ports();
        Self::start_with(port, controller_port)
    }

    /// Starts a broker on `port` of 127.0.0.1, and waits until it serves.
    pub fn start_on(port: u16) -> Self {
        let [controller_port] = free_ports();
        Self::start_with(port, controller_port)
    }

    fn start_with(port: u16, controller_port: u16) -> Self {
        let directory = tempfile::tempdir().expect("a folder for Kafka");
        let properties = directory.path().join("server.properties");
        let text = server_properties(port, controller_port, directory.path());
        std::fs::write(&properties, text).expect("Kafka's properties");
        let format = java("kafka.tools.StorageTool")
            .args(["format", "--cluster-id", "edgefold-tests-cluster", "--config"])
            .arg(&properties)
            .output()
            .expect("java runs");
        assert!(format.status.success(), "Kafka's storage: {}", String::from_utf8_lossy(&format.stderr));
        let output = directory.path().join("kafka.log");
        let mut process = Process::start("Kafka", java("kafka.Kafka").arg(&properties), &output);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{port}")).set("log_level", "0");
        let consumer: BaseConsumer = config.create().expect("a Kafka client");
        process.wait_for("to serve", || {
            // A broker lists itself once it may lead partitions.
            let metadata = consumer.fetch_metadata(None, Duration::from_millis(500)).ok()?;
            (!metadata.brokers().is_empty()).then_some(())
        });
        Self { process, _directory: directory, port }
    }

    /// The URL of the log with `prefix`.
    pub fn log(&self, prefix: &str) -> String {
        format!("kafka://{}/{prefix}", self.brokers())
    }

    /// `HOST:PORT`.
    pub fn brokers(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) {
        self.process.stop();
    }
}

fn java(class: &str) -> Command {
    let mut command = Command::new("java");
    command.args([
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ]);
    command.arg("-cp").arg(tool("kafka").join("*")).arg(class);
    command
}

fn server_properties(port: u16, controller_port: u16, directory: &Path) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={}/data
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
",
        directory.display()
    )
}
