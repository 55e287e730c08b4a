//! Each module in each host that it is for. A test that takes a [`World`] runs in each by name.

use edgefold_snapshotter::modules::{FILTER, PORTABLE_FILTER};
use edgefold_wasm_host::{Host, Response, Rules};

/// A module in a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// The module.
    pub(crate) module: &'static [u8],
    /// The rules of the host.
    pub(crate) rules: Rules,
}

#[allow(dead_code, reason = "not every test uses every world, nor all of it")]
impl World {
    /// The lean module in Envoy.
    pub(crate) const LEAN: Self = Self { module: FILTER, rules: Rules::Envoy };
    /// The portable module in Envoy, and in each other host that takes it.
    pub(crate) const PORTABLE: Self = Self::portable(Rules::Envoy);
    pub(crate) const NGINX: Self = Self::portable(Rules::Nginx);
    pub(crate) const APISIX: Self = Self::portable(Rules::Apisix);
    pub(crate) const GOOGLE: Self = Self::portable(Rules::Google);

    const fn portable(rules: Rules) -> Self {
        Self { module: PORTABLE_FILTER, rules }
    }

    /// A VM with a plugin that is not configured yet.
    pub(crate) fn start(self) -> Host {
        Host::start_by(self.rules, self.module).expect("the host takes the module")
    }

    /// A worker. In Envoy, a canary has validated the snapshot.
    #[track_caller]
    pub(crate) fn configured(self, snapshot: &[u8]) -> Host {
        let mut host = self.start();
        if self.rules == Rules::Envoy {
            let mut canary = self.start();
            assert!(canary.configure(snapshot), "{:?}", canary.log());
            host.state().shared.clone_from(&canary.state().shared);
        }
        assert!(host.configure(snapshot), "{:?}", host.log());
        host
    }

    /// The plain 403, with `reason` in its details if the host has some.
    pub(crate) fn forbidden(self, reason: &str) -> Response {
        let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
        let details = self.details(&format!("edgefold_denied[{reason}]"));
        Response::Refused { status: 403, headers, body: b"Forbidden\n".to_vec(), details }
    }

    /// These response code details, if the host has some.
    pub(crate) fn details(self, details: &str) -> String {
        if self.rules == Rules::Envoy { details.to_owned() } else { String::new() }
    }

    /// Whether requests have filter state.
    pub(crate) fn has_filter_state(self) -> bool {
        self.rules == Rules::Envoy
    }

    /// Whether connections are looked up.
    pub(crate) fn has_network(self) -> bool {
        std::ptr::eq(self.module, FILTER)
    }
}

/// Makes a test of each function: in all worlds, or in Envoy, with either module.
macro_rules! worlds {
    (everywhere { $($everywhere:ident,)* } in_envoy { $($in_envoy:ident,)* }) => {
        worlds!(lean, LEAN, { $($everywhere,)* $($in_envoy,)* });
        worlds!(portable, PORTABLE, { $($everywhere,)* $($in_envoy,)* });
        worlds!(nginx, NGINX, { $($everywhere,)* });
        worlds!(apisix, APISIX, { $($everywhere,)* });
        worlds!(google, GOOGLE, { $($everywhere,)* });
    };
    ($world:ident, $value:ident, { $($case:ident,)* }) => {
        mod $world {
            $(
                #[test]
                fn $case() {
                    super::$case(crate::worlds::World::$value);
                }
            )*
        }
    };
}

pub(crate) use worlds;
