//! The filter of a VM: all plugins that share it.
//!
//! All plugins with the same VM id and code share one VM on each worker of Envoy, and so one [`Filter`]. The last snapshot that
//! a plugin name was configured with serves all requests of that name: those that began under the snapshot before it, and those
//! of every listener and mode. That saves each request a call to find out which configuration it belongs to. Only if a VM has
//! plugins with several names is each request asked for its own.

use alloc::vec::Vec;

use crate::host::{ConfigurationHost, RequestHost};
use crate::plugin::Plugin;
use crate::serving::Serving;

pub use crate::serving::Action;

/// Everything that the plugins in one VM serve.
#[derive(Debug, Default)]
pub struct Filter {
    plugins: Vec<Plugin>,
}

impl Filter {
    /// The filter of a VM in which no plugin has been configured yet.
    pub const fn new() -> Self {
        Self { plugins: Vec::new() }
    }

    /// A plugin is configured, as in [`Plugin::configure`]. `false` rejects its configuration.
    ///
    /// Envoy configures a canary first, a VM in which no plugin has a snapshot yet. A rejection there leaves everything as it was.
    pub fn on_configure(&mut self, host: &impl ConfigurationHost) -> bool {
        // If the host does not say, it is the only one there is.
        let only = || self.plugins.first().map(|only| only.name().to_vec());
        let name = host.plugin_name().or_else(only).unwrap_or_default();
        let index = self.plugins.iter().position(|plugin| plugin.name() == name).unwrap_or_else(|| {
            self.plugins.push(Plugin::new(name, host));
            self.plugins.len().saturating_sub(1)
        });
        // It is always there.
        self.plugins.get_mut(index).is_some_and(|plugin| plugin.configure(host))
    }

    /// The headers of a request have arrived.
    pub fn on_request(&mut self, host: &impl RequestHost) -> Action {
        self.serving(host).on_request(host)
    }

    /// Bytes have arrived for a request that was let pass, and is to be rechecked.
    pub fn on_request_data(&mut self, host: &impl RequestHost) -> Action {
        self.serving(host).on_request_data(host)
    }

    /// A connection has been opened.
    pub fn on_connection(&mut self, host: &impl RequestHost) -> Action {
        self.serving(host).on_connection(host)
    }

    /// Bytes have arrived on a connection that is to be rechecked.
    pub fn on_data(&mut self, host: &impl RequestHost) -> Action {
        self.serving(host).on_data(host)
    }

    /// What the plugin serves that a request or connection belongs to. Plugins first recover what they miss.
    fn serving(&mut self, host: &impl RequestHost) -> &Serving {
        const NOTHING: &Serving = &Serving::NOTHING;
        for plugin in &mut self.plugins {
            plugin.recover(host);
        }
        let plugin = match self.plugins.as_slice() {
            [only] => Some(only),
            several => host.with_plugin_name(|name| several.iter().find(|plugin| Some(plugin.name()) == name)),
        };
        plugin.map_or(NOTHING, |plugin| plugin.serving())
    }
}
