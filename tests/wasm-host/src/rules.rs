//! What hosts insist on, answer and refuse, as their sources and documents say. A host that ends the VM, or itself, at a call
//! panics here.
//!
//! - Envoy: `source/extensions/common/wasm/context.cc` of envoyproxy/envoy, `src/context.cc` and `src/wasm.cc` of
//!   proxy-wasm/proxy-wasm-cpp-host.
//! - nginx and Kong: `src/common/proxy_wasm/` of Kong/ngx_wasm_module, at 3bed278 of 2025-04-02.
//! - APISIX: `src/http/` of api7/wasm-nginx-module, at 0b4b31d of 2024-02-20.
//! - Google: the pages "Plugins overview" and "Plugin best practices" of Service Extensions, and its plugin tester, `plugins/test/` of
//!   GoogleCloudPlatform/service-extensions, at e9fcee7 of 2026-07-25, which leaves to proxy-wasm-cpp-host's `ContextBase` what it
//!   does not implement. Its load balancers themselves are not public.
//! - MOSN: `pkg/wasm/abi/` of mosn/mosn, at 707d635 of 2026-07-14, and `proxywasm/` of mosn/proxy-wasm-go-host, at 25a9e13.

use std::net::{IpAddr, SocketAddr};

use wasmtime::Module;

use crate::State;
use crate::abi::{BAD_ARGUMENT, INTERNAL_FAILURE, NOT_FOUND, OK, UNIMPLEMENTED};

/// Whose rules a [`Host`](crate::Host) follows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Rules {
    /// Envoy, and what is built on it: Istio, Higress.
    #[default]
    Envoy,
    /// ngx_wasm_module in nginx, and in Kong.
    Nginx,
    /// wasm-nginx-module in APISIX.
    Apisix,
    /// Google's Service Extensions.
    Google,
    /// MOSN.
    Mosn,
}

/// The name of the plugin.
pub(crate) const NAME: &str = "edgefold";
/// The name of the module in nginx, which is that of the plugin there, and which its metrics begin with.
const MODULE: &str = "edgefold-of-the-public-frontends";
/// The longest name of a metric in nginx, by default: `NGX_WA_METRICS_DEFAULT_MAX_NAME_LEN`.
const LONGEST_METRIC: usize = 256;

impl Rules {
    /// Why the host refuses a module, if so.
    pub(crate) fn refusal(self, module: &Module) -> Option<String> {
        let has = |name: &str| module.get_export(name).is_some();
        let missing = |names: &[&str]| {
            let missing = names.iter().find(|name| !has(name))?;
            Some(format!("the module does not export {missing}"))
        };
        match self {
            // `AbiVersion` in proxy-wasm-cpp-host. It has no name without one.
            Self::Envoy | Self::Google => missing(&["proxy_abi_version_0_2_1", "proxy_on_memory_allocate"]),
            // `ngx_proxy_wasm_filter_init_abi`. It takes `malloc` as well.
            Self::Nginx => missing(&[
                "proxy_abi_version_0_2_1",
                "proxy_on_memory_allocate",
                "proxy_on_context_create",
                "proxy_on_vm_start",
                "proxy_on_configure",
            ]),
            // It looks each export up when it calls it, and does without those that are not there, but for this one
            // (`ngx_http_wasm_on_configure`). Without the name of an ABI it takes the newest.
            Self::Apisix => missing(&["proxy_on_configure"]),
            // `GetABIList`: only what a factory is registered for, `proxywasm010` and `proxywasm020`.
            Self::Mosn => {
                let known = ["proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0"];
                (!known.into_iter().any(has)).then(|| format!("the module has neither {} nor {}", known[0], known[1]))
            }
        }
    }

    /// Whether it configures a root context again. Envoy starts another root context for another configuration, which the harness
    /// does not distinguish. nginx starts other processes. APISIX starts another root context, which is another plugin.
    pub(crate) fn configures_again(self) -> bool {
        matches!(self, Self::Envoy | Self::Google)
    }

    /// Whether it calls `proxy_on_vm_start`: APISIX does not.
    pub(crate) fn starts_the_vm(self) -> bool {
        self != Self::Apisix
    }

    /// Whether it calls `proxy_on_log`: APISIX does not.
    pub(crate) fn logs(self) -> bool {
        self != Self::Apisix
    }

    /// Whether it knows the end of a request when it passes the headers: nginx does not ("Current Limitations" of
    /// `docs/PROXY_WASM.md`).
    pub(crate) fn knows_the_end(self) -> bool {
        self != Self::Nginx
    }

    /// What it answers to a call instead of doing what the ABI says; `None` if it does that.
    pub(crate) fn answer(self, call: &str) -> Option<u32> {
        let is_shared = matches!(call, "proxy_get_shared_data" | "proxy_set_shared_data");
        let is_metric = matches!(call, "proxy_define_metric" | "proxy_increment_metric" | "proxy_record_metric");
        match self {
            Self::Envoy | Self::Mosn => None,
            // Without `shm_kv` in its configuration: `ngx_wa_shm_kv_resolve_key`.
            Self::Nginx if is_shared => panic!("nginx: {call} ends the VM, because it cannot resolve the namespace"),
            Self::Nginx if call == "proxy_close_stream" => panic!("nginx: {call} ends the VM: not yet implemented"),
            // A property that it does not know cannot be set.
            Self::Nginx if call == "proxy_set_property" => Some(NOT_FOUND),
            Self::Nginx => None,
            Self::Apisix if call == "proxy_set_property" => panic!("APISIX: {call} logs an error for each request"),
            Self::Apisix if is_shared || call == "proxy_get_current_time_nanoseconds" => Some(UNIMPLEMENTED),
            // It does nothing, not even give a metric a number.
            Self::Apisix => (is_metric || call == "proxy_close_stream").then_some(OK),
            // "Service Extensions doesn't support timers, custom metrics, shared data, shared queues, or outbound network calls."
            Self::Google => {
                let is_missing = is_shared || is_metric || matches!(call, "proxy_close_stream" | "proxy_set_property");
                is_missing.then_some(UNIMPLEMENTED)
            }
        }
    }

    /// What it does with the name of a metric.
    pub(crate) fn check_metric(self, name: &str) {
        if self == Self::Nginx {
            // `pw:MODULE:NAME`.
            let length = MODULE.len() + name.len() + 4;
            assert!(length <= LONGEST_METRIC, "nginx: a metric with a name of {length} bytes ends the VM");
        }
    }

    /// The value of a property, or a status. `path` has dots between its parts; `is_path` says whether it had parts.
    pub(crate) fn property(self, state: &State, path: &str, is_path: bool) -> Result<Vec<u8>, u32> {
        let found = match self {
            Self::Envoy | Self::Mosn => state.attributes.get(path).cloned().or_else(|| envoy_header(state, path)),
            Self::Nginx if !state.is_in_request => match path {
                // `get_filter_name` takes the filter from the chain of a request. Of a path with dots, it asserts a request.
                "plugin_name" => panic!("nginx: plugin_name outside of a request reads a null pointer"),
                _ if path.contains('.') => return Err(INTERNAL_FAILURE),
                _ => None,
            },
            Self::Nginx => match path.strip_prefix("ngx.") {
                Some(variable) => nginx_variable(state, variable),
                None => match path {
                    "plugin_name" => Some(MODULE.into()),
                    "source.address" => nginx_variable(state, "remote_addr"),
                    _ => {
                        // `ngx_proxy_wasm_maps_get` finds the first.
                        let name = path.strip_prefix("request.headers.");
                        name.and_then(|name| headers(state, name, false).next().map(Into::into))
                    }
                },
            },
            Self::Apisix if path == "plugin_root_id" => Some(NAME.into()),
            Self::Apisix if !state.is_in_request => return Err(BAD_ARGUMENT),
            // The bytes of the path are the name of a variable, NUL and all.
            Self::Apisix => (!is_path).then(|| nginx_variable(state, path)).flatten(),
            Self::Google if !state.is_in_request => return Err(UNIMPLEMENTED),
            Self::Google => state.attributes.get(path).filter(|_| path == "source.address").cloned(),
        };
        found.ok_or(NOT_FOUND)
    }

    /// The value of a header by `proxy_get_header_map_value`: the first, or in Google's tester all of them, joined.
    pub(crate) fn header(self, state: &State, name: &str) -> Option<Vec<u8>> {
        let values: Vec<&str> = headers(state, name, false).collect();
        match self {
            Self::Google => (!values.is_empty()).then(|| values.join(", ").into()),
            _ => values.first().map(|&first| first.into()),
        }
    }
}

impl Rules {
    /// The pairs of `proxy_get_header_map_pairs`.
    pub(crate) fn headers(self, state: &State) -> Vec<(String, String)> {
        let pseudo = [(":path", "/"), (":method", "GET"), (":scheme", "http")];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
        let headers = state.headers.iter().cloned();
        match self {
            // `NGX_HTTP_WASM_MAX_REQ_HEADERS`, of which pseudo-headers are the first (`ngx_proxy_wasm_pairs_marshal`).
            Self::Nginx => pseudo.chain(headers).take(100).collect(),
            // `ngx_http_wasm_req_get_headers` takes those of Lua, in lower case: at most `NGX_HTTP_LUA_MAX_HEADERS`.
            Self::Apisix => {
                headers.take(100).map(|(name, value)| (name.to_ascii_lowercase(), value)).chain(pseudo).collect()
            }
            _ => pseudo.chain(headers).collect(),
        }
    }
}

/// The values of the request headers with this name. Names of variables have `_` in place of `-`.
fn headers<'a>(state: &'a State, wanted: &str, is_variable: bool) -> impl Iterator<Item = &'a str> {
    let is_wanted = move |name: &str| {
        if is_variable {
            name.replace('-', "_").eq_ignore_ascii_case(wanted)
        } else {
            name.eq_ignore_ascii_case(wanted)
        }
    };
    state.headers.iter().filter(move |(name, _)| is_wanted(name)).map(|(_, value)| &**value)
}

/// The values of a header, if that is what `path` is about, as Envoy joins them.
fn envoy_header(state: &State, path: &str) -> Option<Vec<u8>> {
    let values: Vec<&str> = headers(state, path.strip_prefix("request.headers.")?, false).collect();
    (!values.is_empty()).then(|| values.join(",").into())
}

/// A variable of nginx 1.23 or later, which joins headers with one name.
fn nginx_variable(state: &State, name: &str) -> Option<Vec<u8>> {
    let address = |attribute: &str| state.attributes.get(attribute).map(|text| without_port(text));
    match name {
        "remote_addr" => address("source.address"),
        "realip_remote_addr" => address("filter_state.edgefold.connection_address"),
        _ => {
            let values: Vec<&str> = headers(state, name.strip_prefix("http_")?, true).collect();
            (!values.is_empty()).then(|| values.join(", ").into())
        }
    }
}

/// An address as nginx writes it: without its port, and `unix:` for what has none.
fn without_port(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let ip = text.parse::<SocketAddr>().map(|address| address.ip()).ok();
    let bare = text.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    ip.or(bare).map_or_else(|| "unix:".into(), |ip| ip.to_string().into())
}
