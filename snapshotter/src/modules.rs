//! The filter's modules, as `build.rs` built them.

use edgefold_snapshot::OpenConnections;

use crate::ship::ecds::FilterHost;

/// The filter for wasm.
pub static FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter.wasm"));
/// The filter for wasm that also looks a connection's address up whenever bytes come from it.
pub static RECHECK_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_recheck.wasm"));
/// The filter for hosts other than Envoy, written with the `proxy-wasm` crate.
pub static PORTABLE_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_portable.wasm"));
/// The filter as a dynamic module, for the kind of machine that this was built for. It is empty where Envoy takes none: those are for
/// Linux.
pub static NATIVE_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_native.so"));

/// The module for a setting. What a wasm module exports cannot be switched off by configuration, so there are two.
pub fn module_for(host: FilterHost, open_connections: OpenConnections) -> &'static [u8] {
    match (host, open_connections) {
        (FilterHost::Wasm(_), OpenConnections::Keep) => FILTER,
        (FilterHost::Wasm(_), OpenConnections::Recheck) => RECHECK_FILTER,
        (FilterHost::Native, _) => NATIVE_FILTER,
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

    #[cfg(target_os = "linux")]
    #[test]
    fn the_dynamic_module_is_a_shared_object_of_less_than_1_mib() {
        assert!(NATIVE_FILTER.starts_with(b"\x7fELF") && NATIVE_FILTER.len() < 1 << 20, "{}", NATIVE_FILTER.len());
    }

    #[test]
    fn the_portable_one_is_a_wasm_module_of_less_than_256_kib() {
        assert!(PORTABLE_FILTER.starts_with(b"\0asm"));
        assert!(PORTABLE_FILTER.len() < 256 << 10, "{} bytes", PORTABLE_FILTER.len());
    }
}
