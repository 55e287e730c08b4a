//! The filter's wasm modules, as `build.rs` built them.

use edgefold_snapshot::OpenConnections;

/// The filter.
pub static FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter.wasm"));
/// The filter that also looks a connection's address up whenever bytes come from it.
pub static RECHECK_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_recheck.wasm"));
/// The filter for hosts other than Envoy, written with the `proxy-wasm` crate.
pub static PORTABLE_FILTER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/edgefold_filter_portable.wasm"));

/// The module for a setting. Exports cannot be switched off by configuration, so there are two.
pub fn module_for(open_connections: OpenConnections) -> &'static [u8] {
    match open_connections {
        OpenConnections::Keep => FILTER,
        OpenConnections::Recheck => RECHECK_FILTER,
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

    #[test]
    fn the_portable_one_is_a_wasm_module_of_less_than_256_kib() {
        assert!(PORTABLE_FILTER.starts_with(b"\0asm"));
        assert!(PORTABLE_FILTER.len() < 256 << 10, "{} bytes", PORTABLE_FILTER.len());
    }
}
