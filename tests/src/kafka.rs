//! A real single-node Apache Kafka (KRaft).

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tempfile::TempDir;

use crate::process::Process;
use crate::relay::Relay;
use crate::{eventually, tool};

/// A running broker. What it has stored is removed with it.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    stopped: StoppedKafka,
}

/// A broker that is not running, with what it has stored.
#[derive(Debug)]
pub struct StoppedKafka {
    directory: TempDir,
    port: u16,
    secured_port: u16,
}

/// A record of a topic, with texts for key and value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicRecord {
    /// Its offset in the topic.
    pub offset: i64,
    /// Its key.
    pub key: Option<String>,
    /// Its value; `None` is a tombstone.
    pub value: Option<String>,
}

/// The security protocol of the secured listener, unless a test needs another.
const SASL_PLAINTEXT: &str = "SASL_PLAINTEXT";
/// The one user that it knows.
const PLAIN_LOGIN: &str = "listener.name.secured.sasl.enabled.mechanisms=PLAIN
listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_edgefold=\"right\";
";

impl Kafka {
    /// Starts a broker on a free port, and waits until it serves.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The broker that the tests of this process share: each uses topics with a prefix of its own. It starts when the first of
    /// them needs it, and stops when the last one that holds it is done. (A static would never be dropped, and the broker would
    /// outlive the tests.)
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());
        // After a start that panicked, the next test tries again.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let kafka = Arc::new(Self::start());
            *shared = Arc::downgrade(&kafka);
            kafka
        })
    }

    /// Starts a broker with further properties, one line each.
    pub fn start_with(properties: &str) -> Self {
        let [port] = free_ports();
        StoppedKafka::new(port, None, SASL_PLAINTEXT, &format!("{PLAIN_LOGIN}{properties}")).start()
    }

    /// Starts a broker whose [secured listener](Self::secured_log) has this security protocol, with the properties that it needs, one
    /// on each line.
    pub fn start_with_secured(protocol: &str, properties: &str) -> Self {
        let [port] = free_ports();
        StoppedKafka::new(port, None, protocol, properties).start()
    }

    /// Starts a broker on `port` of 127.0.0.1, and waits until it serves.
    pub fn start_on(port: u16) -> Self {
        StoppedKafka::new(port, None, SASL_PLAINTEXT, PLAIN_LOGIN).start()
    }

    /// Starts a broker that can also be reached through a relay.
    pub fn start_with_relay() -> (Self, Relay) {
        let [port, behind_relay] = free_ports();
        let relay = Relay::start(behind_relay);
        let relayed = Some((behind_relay, relay.port()));
        (StoppedKafka::new(port, relayed, SASL_PLAINTEXT, PLAIN_LOGIN).start(), relay)
    }

    /// The URL of the log with `prefix`.
    pub fn log(&self, prefix: &str) -> String {
        format!("kafka://{}/{prefix}", self.brokers())
    }

    /// The same through a listener that requires SASL PLAIN, with the user `edgefold` and the password `right`, unless the broker was
    /// started with another protocol.
    pub fn secured_log(&self, prefix: &str) -> String {
        format!("kafka://{}:{}/{prefix}", Ipv4Addr::LOCALHOST, self.stopped.secured_port)
    }

    /// `HOST:PORT`.
    pub fn brokers(&self) -> String {
        self.stopped.brokers()
    }

    /// All committed records of a topic with one partition, as a plain consumer reads them.
    pub fn records(&self, topic: &str) -> Vec<TopicRecord> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("group.id", "test").set("enable.partition.eof", "true");
        config.set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().expect("a Kafka client");
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, 0, Offset::Beginning).expect("a partition");
        consumer.assign(&assignment).expect("a partition");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8 in the topic");
        let mut records = Vec::new();
        eventually("the end of the topic", || {
            loop {
                match consumer.poll(Duration::from_secs(1))? {
                    Err(KafkaError::PartitionEOF(_)) => return Some(()),
                    Err(_passes) => return None,
                    Ok(message) => records.push(TopicRecord {
                        offset: message.offset(),
                        key: message.key().map(text),
                        value: message.payload().map(text),
                    }),
                }
            }
        });
        records
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(mut self) -> StoppedKafka {
        self.process.stop();
        self.stopped
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(mut self) -> StoppedKafka {
        self.process.kill();
        self.stopped
    }
}

impl StoppedKafka {
    /// Formats its storage. `relay` is a port to listen on, and the port of the relay in front of it.
    fn new(port: u16, relay: Option<(u16, u16)>, secured: &str, properties: &str) -> Self {
        let [controller_port, secured_port] = free_ports();
        let this = Self { directory: tempfile::tempdir().expect("a folder for Kafka"), port, secured_port };
        let text = format!(
            "{}\n{properties}\n",
            server_properties(
                port,
                [controller_port, secured_port],
                relay,
                secured,
                &this.directory.path().join("data").display().to_string()
            )
        );
        std::fs::write(this.properties(), text).expect("Kafka's properties");
        let format = java("kafka.tools.StorageTool")
            .args(["format", "--cluster-id", "edgefold-tests-cluster", "--config"])
            .arg(this.properties())
            .output()
            .expect("java runs");
        assert!(format.status.success(), "Kafka's storage: {}", String::from_utf8_lossy(&format.stderr));
        this
    }

    /// Starts it, and waits until it serves.
    pub fn start(self) -> Kafka {
        let output = self.directory.path().join("kafka.log");
        let mut process = Process::start("Kafka", java("kafka.Kafka").arg(self.properties()), &output);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("log_level", "0");
        let consumer: BaseConsumer = config.create().expect("a Kafka client");
        process.wait_for("to serve", || {
            // A broker lists itself once it may lead partitions.
            let metadata = consumer.fetch_metadata(None, Duration::from_millis(500)).ok()?;
            (!metadata.brokers().is_empty()).then_some(())
        });
        Kafka { process, stopped: self }
    }

    fn brokers(&self) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    fn properties(&self) -> PathBuf {
        self.directory.path().join("server.properties")
    }
}

/// Different ports that are free now. Another process may take one before it is used. Then the start fails.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}

/// A command that runs a class of Kafka's tools.
pub fn java(class: &str) -> Command {
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

fn server_properties(
    port: u16,
    [controller_port, secured_port]: [u16; 2],
    relay: Option<(u16, u16)>,
    secured: &str,
    data: &str,
) -> String {
    let listener = |port| format!(",RELAYED://127.0.0.1:{port}");
    let (relayed, advertised) =
        relay.map_or_else(Default::default, |(behind, relay)| (listener(behind), listener(relay)));
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},SECURED://127.0.0.1:{secured_port},CONTROLLER://127.0.0.1:{controller_port}{relayed}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURED://127.0.0.1:{secured_port}{advertised}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:{secured},RELAYED:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
"
    )
}
