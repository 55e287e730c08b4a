//! The URL of a log: `sqlite:PATH` or `kafka://HOST:PORT[,HOST:PORT]/PREFIX`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Log;
use crate::Error;

/// Names a log.
///
/// ```
/// use edgefold::LogUrl;
///
/// let url: LogUrl = "kafka://broker-1:9092,broker-2:9092/edgefold".parse()?;
/// assert_eq!(url, LogUrl::Kafka { brokers: "broker-1:9092,broker-2:9092".into(), prefix: "edgefold".into() });
/// assert_eq!(LogUrl::Sqlite("edgefold.db".into()), "sqlite:edgefold.db".parse()?);
/// # Ok::<(), edgefold::UrlError>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogUrl {
    /// A SQLite database file.
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
    /// The log with this URL. Nothing is connected to yet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this build has no support for the kind of log.
    pub fn open(&self) -> Result<Box<dyn Log>, Error> {
        self.open_with(&[])
    }

    /// The log with this URL, with `properties` of librdkafka such as `("security.protocol", "SASL_SSL")`.
    ///
    /// # Errors
    /// [`Error::Property`] for a property that cannot be set (for SQLite: any), and [`Error::Unsupported`].
    pub fn open_with(&self, properties: &[(String, String)]) -> Result<Box<dyn Log>, Error> {
        match self {
            Self::Sqlite(path) => {
                if let Some((key, _)) = properties.first() {
                    let why = "librdkafka's properties apply only to kafka:// logs".to_owned();
                    return Err(Error::Property { key: key.clone(), why });
                }
                open_sqlite(path)
            }
            Self::Kafka { brokers, prefix } => open_kafka(brokers, prefix, properties),
        }
    }
}

#[cfg(feature = "sqlite")]
fn open_sqlite(path: &Path) -> Result<Box<dyn Log>, Error> {
    Ok(Box::new(super::SqliteLog::new(path)))
}

#[cfg(not(feature = "sqlite"))]
fn open_sqlite(_path: &Path) -> Result<Box<dyn Log>, Error> {
    Err(Error::Unsupported { scheme: "sqlite:", feature: "sqlite" })
}

#[cfg(feature = "kafka")]
fn open_kafka(brokers: &str, prefix: &str, properties: &[(String, String)]) -> Result<Box<dyn Log>, Error> {
    Ok(Box::new(super::KafkaLog::new(brokers, prefix, properties)?))
}

#[cfg(not(feature = "kafka"))]
fn open_kafka(_brokers: &str, _prefix: &str, _properties: &[(String, String)]) -> Result<Box<dyn Log>, Error> {
    Err(Error::Unsupported { scheme: "kafka://", feature: "kafka" })
}

impl FromStr for LogUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return if path.starts_with("//") { Err(UrlError::Slashes) } else { Ok(Self::Sqlite(path.into())) };
        }
        let rest = text.strip_prefix("kafka://").ok_or(UrlError::Scheme)?;
        let (brokers, prefix) = rest.split_once('/').ok_or(UrlError::NoPrefix)?;
        if brokers.is_empty() || brokers.split(',').any(str::is_empty) {
            return Err(UrlError::NoBroker);
        }
        // What Kafka allows in a topic's name, minus room for the longest suffix.
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if prefix.is_empty() || prefix.len() > 200 || !prefix.bytes().all(allowed) {
            return Err(UrlError::Prefix);
        }
        Ok(Self::Kafka { brokers: brokers.to_owned(), prefix: prefix.to_owned() })
    }
}

/// Why a text is not the URL of a log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Neither of the two schemes.
    #[error("write sqlite:PATH or kafka://HOST:PORT/PREFIX")]
    Scheme,
    /// A path that is probably not the one that was meant.
    #[error(
        "after sqlite: comes a path, without two slashes: write sqlite:edgefold.db, or sqlite:/var/lib/edgefold/edgefold.db"
    )]
    Slashes,
    /// A Kafka URL without a host.
    #[error("a host is missing: write kafka://HOST:PORT[,HOST:PORT]/PREFIX")]
    NoBroker,
    /// A Kafka URL without a prefix.
    #[error("the prefix of the topics is missing: write kafka://HOST:PORT/PREFIX")]
    NoPrefix,
    /// A prefix that a topic's name cannot have.
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
            ("sqlite://edgefold.db", UrlError::Slashes),
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
