//! The topics' settings: what they must be, and what comes of others.

use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tracing::info;

use super::{Context, KafkaLog, METADATA_TIMEOUT};
use crate::log::LogError;

/// A setting of a topic.
struct Setting {
    key: &'static str,
    /// What `init` creates the topic with; the broker's default if there is none.
    created: Option<&'static str>,
    needed: Needed,
    /// What comes of another value.
    otherwise: Otherwise,
}

enum Needed {
    Exactly(&'static str),
    AtLeast(u64),
}

enum Otherwise {
    /// Data is lost: refused.
    Loses(&'static str),
    /// Data may be lost, or somebody may see too little of it: said.
    Risks(&'static str),
}

/// Kept for ever: the commands are the only truth.
const COMMANDS: [Setting; 4] = [
    Setting {
        key: "cleanup.policy",
        created: Some("delete"),
        needed: Needed::Exactly("delete"),
        otherwise: Otherwise::Loses("compaction drops commands"),
    },
    Setting {
        key: "retention.ms",
        created: Some("-1"),
        needed: Needed::Exactly("-1"),
        otherwise: Otherwise::Loses("old commands are deleted"),
    },
    Setting {
        key: "retention.bytes",
        created: Some("-1"),
        needed: Needed::Exactly("-1"),
        otherwise: Otherwise::Loses("old commands are deleted"),
    },
    Setting {
        key: "unclean.leader.election.enable",
        created: None,
        needed: Needed::Exactly("false"),
        otherwise: Otherwise::Risks("commands that were acknowledged can be lost with a broker"),
    },
];

const RANGES: [Setting; 3] = [
    Setting {
        key: "cleanup.policy",
        created: Some("compact"),
        needed: Needed::Exactly("compact"),
        otherwise: Otherwise::Loses("ranges are deleted, or never cleaned up"),
    },
    Setting {
        key: "delete.retention.ms",
        created: Some("86400000"),
        needed: Needed::AtLeast(3_600_000),
        otherwise: Otherwise::Risks("a start that takes longer to read the topic can miss that a range is gone"),
    },
    Setting {
        key: "min.compaction.lag.ms",
        created: Some("3600000"),
        needed: Needed::AtLeast(3_600_000),
        otherwise: Otherwise::Risks(
            "a start that takes longer to read the topic can miss a range that changes meanwhile",
        ),
    },
];

pub(super) fn too_many_partitions(topic: &str, count: usize) -> String {
    format!("topic {topic} has {count} partitions, but must have 1: more would lose the order of the commands")
}

/// What is wrong with a topic that is there.
#[derive(Default)]
struct Findings {
    loses: Vec<String>,
    risks: Vec<String>,
}

impl KafkaLog {
    pub(super) fn create_and_check_topics(&self) -> Result<Vec<String>, LogError> {
        let admin = self.admin()?;
        let mut report = Vec::new();
        let mut loses = Vec::new();
        for (name, settings) in self.topics() {
            if self.create(&admin, &name, settings)? {
                report.push(format!("created topic {name}"));
                continue;
            }
            let found = self.findings(&admin, &name, settings)?;
            if found.loses.is_empty() && found.risks.is_empty() {
                report.push(format!("topic {name} is there already, with the right settings"));
            }
            report.extend(found.risks);
            loses.extend(found.loses);
        }
        if loses.is_empty() { Ok(report) } else { Err(LogError::Settings(loses)) }
    }

    pub(super) fn check_topics(&self) -> Result<Vec<String>, LogError> {
        let admin = self.admin()?;
        let mut found = Findings::default();
        for (name, settings) in self.topics() {
            match self.findings(&admin, &name, settings) {
                Ok(findings) => {
                    found.loses.extend(findings.loses);
                    found.risks.extend(findings.risks);
                }
                // The view can be built from the commands.
                Err(LogError::Missing(_)) if name == self.ranges_topic() => {}
                Err(error) => return Err(error),
            }
        }
        if found.loses.is_empty() { Ok(found.risks) } else { Err(LogError::Settings(found.loses)) }
    }

    pub(super) fn create_ranges_topic_if_missing(&self) -> Result<(), LogError> {
        match self.client_of(&self.ranges_topic()) {
            Err(LogError::Missing(_)) => {
                let name = self.ranges_topic();
                if self.create(&self.admin()?, &name, &RANGES)? {
                    info!("created topic {name}");
                }
                Ok(())
            }
            other => other.map(drop),
        }
    }

    fn topics(&self) -> [(String, &'static [Setting]); 2] {
        [(self.commands_topic(), &COMMANDS), (self.ranges_topic(), &RANGES)]
    }

    fn admin(&self) -> Result<AdminClient<Context>, LogError> {
        self.connect(&self.config)
    }

    /// Says whether the topic was missing.
    fn create(&self, admin: &AdminClient<Context>, name: &str, settings: &[Setting]) -> Result<bool, LogError> {
        // The replication factor is the broker's default: it knows how many brokers there are.
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(-1));
        let created = settings.iter().filter_map(|setting| Some((setting.key, setting.created?)));
        let topic = created.fold(topic, |topic, (key, value)| topic.set(key, value));
        let created = block_on(admin.create_topics([&topic], &options()));
        let created = created.map_err(|error| self.failed(&format!("create topic {name}"), error))?;
        match created.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, error))) => Err(self.failed(&format!("create topic {name}"), KafkaError::AdminOp(error))),
            _ => Ok(true),
        }
    }

    fn findings(&self, admin: &AdminClient<Context>, topic: &str, settings: &[Setting]) -> Result<Findings, LogError> {
        let mut found = Findings::default();
        match self.client_of(topic) {
            Err(LogError::Settings(wrong)) => found.loses = wrong,
            other => drop(other?),
        }
        let doing = format!("ask for the settings of topic {topic}");
        let described = block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options()));
        let described = described.map_err(|error| self.failed(&doing, error))?;
        let described: ConfigResource = match described.into_iter().next() {
            Some(Ok(described)) => described,
            Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                found.risks.push(format!(
                    "the settings of topic {topic} cannot be checked: the right DESCRIBE_CONFIGS is missing"
                ));
                return Ok(found);
            }
            Some(Err(error)) => return Err(self.failed(&doing, KafkaError::AdminOp(error))),
            None => return Err(self.failed(&doing, KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopic))),
        };
        for Setting { key, needed, otherwise, .. } in settings {
            let value = described.get(key).and_then(|entry| entry.value.as_deref()).unwrap_or("unset");
            let needed = match needed {
                Needed::Exactly(needed) if value != *needed => format!("{key}={needed}"),
                Needed::AtLeast(least) if value.parse::<u64>().is_ok_and(|value| value < *least) => {
                    format!("{key} of at least {least}")
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
