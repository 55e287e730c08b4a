//! The configuration that the topics must have, and what goes wrong with any other.

use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::info;

use super::{Context, KafkaLog, METADATA_TIMEOUT};
use crate::Error;

/// Between two questions whether a new topic is known.
const PAUSE: Duration = Duration::from_millis(50);

/// A configuration entry of a topic.
struct TopicConfig {
    key: &'static str,
    /// The value that `init` creates the topic with; `None` for the broker's default.
    created: Option<&'static str>,
    needed: Needed,
    /// What goes wrong with another value.
    otherwise: Otherwise,
}

enum Needed {
    Exactly(&'static str),
    AtLeast(u64),
    AtMost(u64),
    AtMostRatio(f64),
}

enum Otherwise {
    /// Data is lost: the topic is refused.
    Loses(&'static str),
    /// Data may be lost, or a reader may miss some: a warning.
    Risks(&'static str),
}

/// The commands are the only truth, and are kept forever.
const COMMANDS: [TopicConfig; 6] = [
    TopicConfig {
        key: "cleanup.policy",
        created: Some("delete"),
        needed: Needed::Exactly("delete"),
        otherwise: Otherwise::Loses("compaction drops commands"),
    },
    TopicConfig {
        key: "retention.ms",
        created: Some("-1"),
        needed: Needed::Exactly("-1"),
        otherwise: Otherwise::Loses("old commands are deleted"),
    },
    TopicConfig {
        key: "retention.bytes",
        created: Some("-1"),
        needed: Needed::Exactly("-1"),
        otherwise: Otherwise::Loses("old commands are deleted"),
    },
    TopicConfig {
        key: "message.timestamp.type",
        created: Some("LogAppendTime"),
        needed: Needed::Exactly("LogAppendTime"),
        otherwise: Otherwise::Risks("a producer whose clock is fast can end the blocks of others early"),
    },
    TopicConfig {
        key: "unclean.leader.election.enable",
        created: None,
        needed: Needed::Exactly("false"),
        otherwise: Otherwise::Risks("commands that were acknowledged can be lost with a broker"),
    },
    MIN_INSYNC_REPLICAS,
];

/// With one, a command is acknowledged that only a single broker has.
const MIN_INSYNC_REPLICAS: TopicConfig = TopicConfig {
    key: "min.insync.replicas",
    created: None,
    needed: Needed::AtLeast(2),
    otherwise: Otherwise::Risks("what was acknowledged can be lost with a broker"),
};

/// What keeps a start short: it reads the whole topic. The segment that is being written is never compacted, so it must not grow
/// large or old.
const RANGES: [TopicConfig; 7] = [
    TopicConfig {
        key: "cleanup.policy",
        created: Some("compact"),
        needed: Needed::Exactly("compact"),
        otherwise: Otherwise::Loses("ranges are deleted, or superseded records are kept forever"),
    },
    TopicConfig {
        key: "delete.retention.ms",
        created: Some("86400000"),
        needed: Needed::AtLeast(3_600_000),
        otherwise: Otherwise::Risks(
            "a start that takes longer than that to read the topic can miss that a range is gone",
        ),
    },
    TopicConfig {
        key: "min.compaction.lag.ms",
        created: Some("3600000"),
        needed: Needed::AtLeast(3_600_000),
        otherwise: Otherwise::Risks(
            "a start that takes longer than that to read the topic can miss a range that changes meanwhile",
        ),
    },
    TopicConfig {
        key: "segment.ms",
        created: Some("3600000"),
        needed: Needed::AtMost(86_400_000),
        otherwise: Otherwise::Risks("superseded ranges are kept for so long, and a start reads them all"),
    },
    TopicConfig {
        key: "segment.bytes",
        created: Some("1048576"), // Kafka's least.
        needed: Needed::AtMost(67_108_864),
        otherwise: Otherwise::Risks("so many bytes of superseded ranges are kept, and a start reads them all"),
    },
    TopicConfig {
        key: "min.cleanable.dirty.ratio",
        created: Some("0.1"),
        needed: Needed::AtMostRatio(0.5),
        otherwise: Otherwise::Risks(
            "so large a part of the topic may be superseded ranges, and a start reads them all",
        ),
    },
    MIN_INSYNC_REPLICAS,
];

pub(super) fn too_many_partitions(topic: &str, count: usize) -> String {
    format!("topic {topic} has {count} partitions, but must have 1: with more, the commands have no total order")
}

/// What is wrong with a topic that exists.
#[derive(Default)]
struct Findings {
    loses: Vec<String>,
    risks: Vec<String>,
}

impl KafkaLog {
    pub(super) fn create_and_check_topics(&self) -> Result<Vec<String>, Error> {
        let admin = self.admin()?;
        let mut report = Vec::new();
        let mut loses = Vec::new();
        for (name, configs) in self.topics() {
            if self.create(&admin, &name, configs)? {
                report.push(format!("created topic {name}"));
                continue;
            }
            let found = self.findings(&admin, &name, configs)?;
            if found.loses.is_empty() && found.risks.is_empty() {
                report.push(format!("topic {name} exists already, with the right settings"));
            }
            report.extend(found.risks);
            loses.extend(found.loses);
        }
        if loses.is_empty() { Ok(report) } else { Err(Error::Settings(loses)) }
    }

    pub(super) fn check_topics(&self) -> Result<Vec<String>, Error> {
        let admin = self.admin()?;
        let mut found = Findings::default();
        for (name, configs) in self.topics() {
            match self.findings(&admin, &name, configs) {
                Ok(findings) => {
                    found.loses.extend(findings.loses);
                    found.risks.extend(findings.risks);
                }
                // The view can be rebuilt from the commands.
                Err(Error::Missing(_)) if name == self.ranges_topic() => {}
                Err(error) => return Err(error),
            }
        }
        if found.loses.is_empty() { Ok(found.risks) } else { Err(Error::Settings(found.loses)) }
    }

    pub(super) fn create_ranges_topic_if_missing(&self) -> Result<(), Error> {
        match self.client_of(&self.ranges_topic()) {
            Err(Error::Missing(_)) => {
                let name = self.ranges_topic();
                if self.create(&self.admin()?, &name, &RANGES)? {
                    info!("created topic {name}");
                }
                Ok(())
            }
            other => other.map(drop),
        }
    }

    fn topics(&self) -> [(String, &'static [TopicConfig]); 2] {
        [(self.commands_topic(), &COMMANDS), (self.ranges_topic(), &RANGES)]
    }

    fn admin(&self) -> Result<AdminClient<Context>, Error> {
        self.connect(&self.config)
    }

    /// Creates a topic, and returns whether it was missing. Then a broker knows it, so that whoever asks next finds it.
    fn create(&self, admin: &AdminClient<Context>, name: &str, configs: &[TopicConfig]) -> Result<bool, Error> {
        // The replication factor is the broker's default: it knows the size of the cluster.
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1));
        let created = configs.iter().filter_map(|config| Some((config.key, config.created?)));
        let topic = created.fold(topic, |topic, (key, value)| topic.set(key, value));
        let created = block_on(admin.create_topics([&topic], &options()));
        let created = created.map_err(|error| self.failed(&format!("create topic {name}"), error))?;
        match created.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, error))) => Err(self.failed(&format!("create topic {name}"), KafkaError::AdminOp(error))),
            _ => {
                self.wait_for(name);
                Ok(true)
            }
        }
    }

    /// Waits until a broker knows a new topic: the controller says that it is created before the brokers have heard of it.
    fn wait_for(&self, topic: &str) {
        let deadline = Instant::now() + METADATA_TIMEOUT;
        while matches!(self.client_of(topic), Err(Error::Missing(_))) && Instant::now() < deadline {
            thread::sleep(PAUSE);
        }
    }

    fn findings(&self, admin: &AdminClient<Context>, topic: &str, configs: &[TopicConfig]) -> Result<Findings, Error> {
        let mut found = Findings::default();
        match self.client_of(topic) {
            Err(Error::Settings(wrong)) => found.loses = wrong,
            Ok((_, 1)) => found.risks.push(format!("topic {topic} has one replica: it is lost with its broker")),
            other => drop(other?),
        }
        let doing = format!("ask for the configuration of topic {topic}");
        let described = block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()));
        let described = described.map_err(|error| self.failed(&doing, error))?;
        let described: ConfigResource = match described.into_iter().next() {
            // Without the right, librdkafka returns no error, but a configuration without entries.
            Some(Ok(described)) if !described.entries.is_empty() => described,
            Some(Ok(_) | Err(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                found.risks.push(format!(
                    "the configuration of topic {topic} cannot be checked: the ACL for DESCRIBE_CONFIGS is missing"
                ));
                return Ok(found);
            }
            Some(Err(error)) => return Err(self.failed(&doing, KafkaError::AdminOp(error))),
            None => return Err(self.failed(&doing, KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopic))),
        };
        for TopicConfig { key, needed, otherwise, .. } in configs {
            let value = described.get(key).and_then(|entry| entry.value.as_deref()).unwrap_or("unset");
            let needed = match needed {
                Needed::Exactly(needed) if value != *needed => format!("{key}={needed}"),
                Needed::AtLeast(least) if value.parse::<u64>().is_ok_and(|value| value < *least) => {
                    format!("{key} of at least {least}")
                }
                Needed::AtMost(most) if value.parse::<u64>().is_ok_and(|value| value > *most) => {
                    format!("{key} of at most {most}")
                }
                Needed::AtMostRatio(most) if value.parse::<f64>().is_ok_and(|value| value > *most) => {
                    format!("{key} of at most {most}")
                }
                _ => continue,
            };
            match otherwise {
                Otherwise::Loses(what) => {
                    found.loses.push(format!("topic {topic} has {key}={value}, but must have {needed}: {what}"));
                }
                Otherwise::Risks(what) => {
                    found.risks.push(format!("topic {topic} has {key}={value}, but should have {needed}: {what}"));
                }
            }
        }
        Ok(found)
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT)).operation_timeout(Some(METADATA_TIMEOUT))
}
