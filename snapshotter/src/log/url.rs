//! Which log: `sqlite:PATH` or `kafka://HOST:PORT[,HOST:PORT]/PREFIX`.

use std::path::PathBuf;
use std::str::FromStr;

use super::kafka::KafkaLog;
use super::sqlite::SqliteLog;
use super::{Log, LogError};

/// Which log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogUrl {
    /// A database file.
    Sqlite(PathBuf),
    /// Two topics of a Kafka cluster.
    Kafka {
        /// `HOST:PORT[,HOST:PORT]`, librdkafka's `bootstrap.servers`.
        brokers: String,
        /// The topics are `PREFIX.commands` and `PREFIX.ranges`.
        prefix: String,
    },
}

impl LogUrl {
    /// The log behind the URL, with librdkafka's `properties`.
    ///
    /// # Errors
    /// [`LogError::Property`] for a property that cannot be set; for SQLite, any.
    pub fn open(&self, properties: &[(String, String)]) -> Result<Box<dyn Log>, LogError> {
        Ok(match self {
            Self::Sqlite(path) => match properties.first() {
                None => Box::new(SqliteLog::new(path)),
                Some((key, value)) => {
                    let why = "librdkafka's properties are for a kafka:// log".to_owned();
                    return Err(LogError::Property { key: key.clone(), value: value.clone(), why });
                }
            },
            Self::Kafka { brokers, prefix } => Box::new(KafkaLog::new(brokers, prefix, properties)?),
        })
    }
}

impl FromStr for LogUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(path.into()));
        }
        let rest = text.strip_prefix("kafka://").ok_or(UrlError::Scheme)?;
        let (brokers, prefix) = rest.split_once('/').ok_or(UrlError::NoPrefix)?;
        if brokers.is_empty() || brokers.split(',').any(str::is_empty) {
            return Err(UrlError::NoBroker);
        }
        // The characters and the length that Kafka takes for a topic, less those of the longest suffix.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if prefix.is_empty() || prefix.len() > 200 || !prefix.bytes().all(allowed) {
            return Err(UrlError::Prefix);
        }
        Ok(Self::Kafka { brokers: brokers.to_owned(), prefix: prefix.to_owned() })
    }
}

/// Why a text is no URL of a log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither of the two schemes.
    #[error("write sqlite:PATH or kafka://HOST:PORT/PREFIX")]
    Scheme,
    /// No host in a Kafka URL.
    #[error("a host is missing: write kafka://HOST:PORT[,HOST:PORT]/PREFIX")]
    NoBroker,
    /// No prefix in a Kafka URL.
    #[error("the prefix of the topics is missing: write kafka://HOST:PORT/PREFIX")]
    NoPrefix,
    /// A prefix that is no part of a topic's name.
    #[error("the prefix of the topics must be 1 to 200 letters, digits, dots, underscores or hyphens")]
    Prefix,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        assert_eq!("sqlite:edgefold.db".parse(), Ok(LogUrl::Sqlite("edgefold.db".into())));
        let kafka = LogUrl::Kafka { brokers: "a:9092,[::1]:9092".into(), prefix: "edge.fold".into() };
        assert_eq!("kafka://a:9092,[::1]:9092/edge.fold".parse(), Ok(kafka));
        for (text, error) in [
            ("edgefold.db", UrlError::Scheme),
            ("sqlite:", UrlError::Scheme),
            ("kafka://a:9092", UrlError::NoPrefix),
            ("kafka:///p", UrlError::NoBroker),
            ("kafka://a:9092,/p", UrlError::NoBroker),
            ("kafka://a:9092/", UrlError::Prefix),
            ("kafka://a:9092/a/b", UrlError::Prefix),
        ] {
            assert_eq!(text.parse::<LogUrl>(), Err(error), "{text}");
        }
    }
}
