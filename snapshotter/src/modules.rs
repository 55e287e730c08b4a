//! The filter's modules, as `build.rs` built them.

use edgefold_snapshot::OpenConnections;

use xxhash_rust::xxh3::xxh3_64;

use crate::ship::ecds::FilterHost;

/// The version of Envoy's ABI that the dynamic module is for: `ENVOY_DYNAMIC_MODULES_ABI_VERSION`.
const NATIVE_ABI: &str = "v0.2.0";

/// The filter for wasm.
pub static FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter.wasm"));
/// The filter for wasm that also looks a connection's address up whenever bytes come from it.
pub static RECHECK_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_recheck.wasm"));
/// The filter for hosts other than Envoy, written with the `proxy-wasm` crate.
pub static PORTABLE_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_portable.wasm"));
/// The filter as a dynamic module, for the kind of machine that this was built for. It is empty where Envoy takes none: those are for
/// Linux with glibc.
pub static NATIVE_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_native.so"));

/// The module for a setting. What a wasm module exports cannot be switched off by configuration, so there are two.
pub fn module_for(host: FilterHost, open_connections: OpenConnections) -> &'static [u8] {
    match (host, open_connections) {
        (FilterHost::Wasm(_), OpenConnections::Keep) => FILTER,
        (FilterHost::Wasm(_), OpenConnections::Recheck) => RECHECK_FILTER,
        (FilterHost::Native, _) => NATIVE_FILTER,
    }
}

/// The name of the file with a module. It tells versions apart: Envoy does not load a dynamic module again from a path that it knows.
pub fn file_name(host: FilterHost, module: &[u8]) -> String {
    let hash = xxh3_64(module);
    match host {
        FilterHost::Wasm(_) => format!("edgefold-filter-{hash:016x}.wasm"),
        FilterHost::Native => format!("edgefold-filter-{}-abi-{NATIVE_ABI}-{hash:016x}.so", env!("CARGO_PKG_VERSION")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_wasm_modules_of_less_than_144_kib() {
        for module in [FILTER, RECHECK_FILTER] {
            assert!(module.starts_with(b"\0asm") && module.len() < 144 << 10, "{} bytes", module.len());
        }
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn the_dynamic_module_is_a_shared_object_of_less_than_1_mib() {
        assert!(NATIVE_FILTER.starts_with(b"\x7fELF") && NATIVE_FILTER.len() < 1 << 20, "{}", NATIVE_FILTER.len());
        let abi = format!("{NATIVE_ABI}\0");
        assert!(NATIVE_FILTER.windows(abi.len()).any(|window| window == abi.as_bytes()), "the name says another ABI");
    }

    #[test]
    fn the_portable_one_is_a_wasm_module_of_less_than_256_kib() {
        assert!(PORTABLE_FILTER.starts_with(b"\0asm"));
        assert!(PORTABLE_FILTER.len() < 256 << 10, "{} bytes", PORTABLE_FILTER.len());
    }
}
