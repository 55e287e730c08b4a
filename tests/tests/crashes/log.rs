//! Opening the log under test, and creating a topic with settings that `edgefold init` would not choose.

use edgefold::{Log, LogUrl};
use edgefold_tests::Kafka;
use futures_executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::config::ClientConfig;

pub(crate) fn open(url: &str) -> Box<dyn Log> {
    url.parse::<LogUrl>().unwrap().open().unwrap()
}

pub(crate) fn create_topic(kafka: &Kafka, name: &str, settings: &[(&str, &str)]) {
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let created = block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
    created.into_iter().for_each(|result| drop(result.unwrap()));
}
