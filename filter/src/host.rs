//! What the filter asks of its host. No method fails: what a host cannot do is left undone, and what it does not have is `None`.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use edgefold_snapshot::Fingerprint;

use crate::configuration::{ConfigurationError, snapshot_in};

/// A metric that the host knows by a number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Metric(pub u32);

/// Changes metrics.
pub trait MetricsHost {
    /// Adds one to a counter.
    fn increment(&self, counter: Metric);
    /// Sets a gauge.
    fn set_gauge(&self, gauge: Metric, value: u64);
    /// Defines a counter. The host keeps it, even if the VM that defined it is gone.
    fn define_counter(&self, name: &str) -> Option<Metric>;
}

/// What the filter asks of its host while a plugin is configured.
pub trait ConfigurationHost: MetricsHost {
    /// Whether the host configures a *canary* before it configures the workers, as Envoy does with wasm. A host without one configures
    /// what serves requests, and has to be told what is rejected: a dynamic module is configured once for all threads of Envoy, and
    /// keeps what it has. nginx and APISIX configure in each worker. They never update a plugin: nginx starts other workers, and APISIX
    /// starts another plugin.
    fn has_canary(&self) -> bool {
        true
    }

    /// Whether plugins with one name get an overlay and its base. Where each plugin has a snapshot of its own, the other half of a pair
    /// never comes.
    fn takes_pairs(&self) -> bool {
        true
    }

    /// The name of the plugin.
    fn plugin_name(&self) -> Option<Vec<u8>>;
    /// The plugin's configuration.
    fn configuration(&self) -> Option<Vec<u8>>;
    /// The fingerprint of the snapshot that the configuration names; `None` if it has the snapshot in it.
    fn named_snapshot(&self, _configuration: &[u8]) -> Option<Fingerprint> {
        None
    }

    /// The snapshot in the plugin's configuration, of the forms that the host may pass, or the one that it names.
    ///
    /// # Errors
    /// [`ConfigurationError`] if it has another form, or names what cannot be read.
    fn snapshot_in(&self, configuration: Vec<u8>) -> Result<Vec<u8>, ConfigurationError> {
        snapshot_in(configuration)
    }
    /// The fingerprint of the last snapshot from a resource that any VM of the plugin has validated. Envoy validates in a canary
    /// before it configures the workers, where requests wait: for a million ranges, validation is three quarters of their time.
    fn validated(&self, from: Resource) -> Option<Fingerprint>;
    /// Shares the fingerprint of a validated snapshot with all VMs of the plugin.
    fn share_validated(&self, from: Resource, fingerprint: Fingerprint);
    /// Shares the bytes of a validated base with all VMs of the plugin, in place of the one before.
    fn share_base(&self, base: &[u8]);
    /// The host's key for a request header, for [`RequestHost::with_header`]. Names of headers are not case-sensitive.
    fn header_key(&self, name: &str) -> Vec<u8>;
    /// Defines a gauge.
    fn define_gauge(&self, name: &str) -> Option<Metric>;
    /// Logs a line.
    fn log(&self, level: Level, line: &str);
}

/// Where a snapshot comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource {
    /// The resource of the filter, with a whole snapshot or an overlay.
    Filter,
    /// The resource of its bases.
    Base,
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Level {
    /// For information.
    Info,
    /// Something is wrong.
    Error,
}

/// What the filter asks of its host for a request or a connection.
pub trait RequestHost: MetricsHost {
    /// The base that [`ConfigurationHost::share_base`] has shared last; `None` if the host knows that it has another fingerprint.
    fn shared_base(&self, fingerprint: Fingerprint) -> Option<Vec<u8>>;
    /// Passes the name of the plugin that the request or connection belongs to to `read`, which must not call the host.
    fn with_plugin_name<R>(&self, read: impl FnOnce(Option<&[u8]>) -> R) -> R;
    /// The address of the client that the host has determined; `None` if it has no IP address.
    fn source_address(&self) -> Option<IpAddr>;
    /// The address of the peer that opened the connection. The outer `None` means that the host does not provide it, the inner
    /// one that the peer has no IP address.
    fn connection_address(&self) -> Option<Option<IpAddr>>;
    /// Passes the value of the request header with this [key](ConfigurationHost::header_key) to `read`, which must not call the
    /// host. Several headers with one name are one list, joined with commas.
    fn with_header<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R;
    /// Removes all request headers with this name, which is in lower case.
    fn remove_request_header(&self, name: &str);
    /// Adds a request header.
    fn add_request_header(&self, name: &str, value: &str);
    /// Sets the filter state `wasm.` plus `name` of the request or connection.
    fn set_filter_state(&self, name: &str, value: &str);
    /// Answers the request.
    fn respond(&self, response: &LocalResponse<'_>);
    /// Milliseconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> u64;
    /// Ends a request that was let pass before, with whatever it has turned into, such as a WebSocket.
    fn reset_request(&self);
    /// Closes the client's connection.
    fn close_connection(&self);
}

/// A response that the filter itself sends.
#[derive(Clone, Copy, Debug)]
pub struct LocalResponse<'a> {
    /// The status.
    pub status: u16,
    /// The content type of the body; `None` if there is no body.
    pub content_type: Option<&'a str>,
    /// Further headers: names and values.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
    /// The response code details, for the access log.
    pub details: &'a str,
}
