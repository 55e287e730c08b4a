//! The filter as a dynamic module: its ABI, and what a panic in Envoy's process does.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod commands;
mod load;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use edgefold_snapshot::{Fingerprint, SnapshotFile};
use edgefold_snapshotter::modules::NATIVE_FILTER;
use edgefold_snapshotter::replace::replace_file;
use edgefold_snapshotter::ship::ecds::{Code, FilterHost, FilterKind, Payload, Resource, payload_in, snapshot_in};
use edgefold_tests::{Edgefold, EnvoyOptions, FleetOptions, Host, Xds, eventually, raw, tool, workspace};

use object::elf::{DF_1_NOW, DT_FLAGS_1};
use object::read::elf::{Dyn, ElfFile64, FileHeader};
use object::{Endianness, Object, ObjectSymbol};

use crate::commands::{MANY, append, large, singles};
use crate::load::under_load;

/// The names of the callbacks that a shared object or program imports, or exports.
fn names(elf: &ElfFile64<'_>, prefix: &str, is_export: bool) -> BTreeSet<String> {
    let symbols = elf.dynamic_symbols().filter(|symbol| symbol.is_definition() == is_export);
    symbols.filter_map(|symbol| Some(symbol.name().ok()?.to_owned())).filter(|name| name.starts_with(prefix)).collect()
}

/// All names with this prefix in the strings of a program.
fn mentioned(program: &[u8], prefix: &str) -> BTreeSet<String> {
    let strings = program.split(|&byte| byte == 0).filter_map(|text| str::from_utf8(text).ok());
    let is_name = |text: &&str| text.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
    strings.filter(|text| text.starts_with(prefix)).filter(is_name).map(str::to_owned).collect()
}

fn envoy() -> Vec<u8> {
    std::fs::read(tool("bin/envoy")).unwrap()
}

#[test]
fn envoy_has_each_callback_that_the_module_imports_and_refuses_the_module_if_not() {
    let (module, envoy) = (ElfFile64::<Endianness>::parse(NATIVE_FILTER).unwrap(), envoy());
    let prefix = "envoy_dynamic_module_callback_";
    let imported = names(&module, prefix, false);
    let exported = names(&ElfFile64::parse(&*envoy).unwrap(), prefix, true);
    assert!(imported.len() > 20 && exported.len() > 100, "{imported:?}");
    assert_eq!(imported.difference(&exported).collect::<Vec<_>>(), Vec::<&String>::new());
    // Bound when it is loaded: a callback that Envoy lacks must not be noticed when a request needs it.
    let endian = Endianness::Little;
    let (header, data) = (module.elf_header(), NATIVE_FILTER);
    let (dynamic, _) = header.sections(endian, data).unwrap().dynamic(endian, data).unwrap().unwrap();
    let flags = dynamic.iter().find(|entry| entry.tag(endian) == DT_FLAGS_1).unwrap();
    assert_ne!(flags.val(endian) & u64::from(DF_1_NOW), 0);
}

#[test]
fn the_module_has_each_hook_that_envoy_asks_for() {
    // Envoy does without those of a configuration, and without this one.
    let is_optional = |name: &str| {
        name.contains("_http_filter_config_") && !name.ends_with("_config_new") && !name.ends_with("_config_destroy")
            || name.ends_with("_http_filter_local_reply")
            || name.ends_with("_network_filter_http_callout_done")
            || name.ends_with("_network_filter_config_scheduled")
            || name.ends_with("_network_filter_scheduled")
            || name.contains("_network_filter_") && name.ends_with("_watermark")
    };
    let (module, envoy) = (ElfFile64::<Endianness>::parse(NATIVE_FILTER).unwrap(), envoy());
    let all = |prefix: &str| (names(&module, prefix, true), mentioned(&envoy, prefix));
    for prefix in [
        "envoy_dynamic_module_on_http_filter_",
        "envoy_dynamic_module_on_network_filter_",
        "envoy_dynamic_module_on_program_",
    ] {
        let (exported, asked_for) = all(prefix);
        assert!(!asked_for.is_empty(), "{prefix}");
        let missing: Vec<_> = asked_for.difference(&exported).filter(|name| !is_optional(name)).collect();
        assert_eq!(missing, Vec::<&String>::new());
        let unknown: Vec<_> = exported.difference(&asked_for).collect();
        assert_eq!(unknown, Vec::<&String>::new(), "Envoy never calls these");
    }
}

#[test]
fn the_command_writes_the_module_that_is_shipped() {
    let edgefold = Edgefold::uninitialized();
    let path = edgefold.path("filter.so");
    edgefold.run(&["module", "--native", "-o", &path]);
    assert!(std::fs::read(path).unwrap() == NATIVE_FILTER);
}

/// The module with a panic in it, which the shipped one does not have.
fn module_that_panics(directory: &Path) -> PathBuf {
    let target = workspace().join("target/native-that-panics");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--locked", "--lib"]);
    cargo.args(["--package", "edgefold-filter-native", "--features", "injected-panic", "--target-dir"]).arg(&target);
    assert!(cargo.status().unwrap().success(), "the module with a panic does not build");
    let module = directory.join("panics.so");
    std::fs::copy(target.join("debug/libedgefold_filter_native.so"), &module).unwrap();
    module
}

/// 192.0.2.66 makes the module panic. Nobody may get past it by that, and nobody else may notice.
#[test]
fn a_panic_refuses_its_request_and_envoy_goes_on() {
    let edgefold = Edgefold::sqlite().with_host(Host::Native).block(&["10.0.0.0/24"]);
    let serve = edgefold.serve_both(&[]);
    let files = [(FilterKind::Http, edgefold.ecds_file()), (FilterKind::Network, edgefold.network_ecds_file())];
    let module = module_that_panics(edgefold.ecds_file().parent().unwrap());
    drop(serve);
    for (kind, file) in &files {
        let snapshot = snapshot_in(&std::fs::read(file).unwrap().into()).unwrap();
        let (name, version, shipment, code) = ("edgefold", "panics", "panics", Code::File(module.to_str().unwrap()));
        let resource = Resource {
            kind: *kind,
            name,
            version,
            shipment,
            host: FilterHost::Native,
            code,
            snapshot: Payload::Inline(snapshot),
        };
        replace_file(file, &resource.encode()).unwrap();
    }
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    for _ in 0..20 {
        let statuses = ["192.0.2.66", "10.0.0.7", "192.0.2.1"].map(|source| client.status_for(source));
        assert_eq!(statuses, [503, 403, 200]);
    }
    envoy.wait_for_log_line("503 edgefold_denied[panic]");
    let lines = envoy.output().matches("edgefold: panicked at ").count();
    assert_eq!(lines, 10, "what requests do must not fill the log");
    assert_eq!(client.post(vec![b'x'; 100_000], "192.0.2.66"), 503);
    // A request that cannot even be answered is reset. Neither its body nor its trailers take it to the upstream.
    let request = "POST / HTTP/1.1\r\nhost: edge\r\nx-forwarded-for: 192.0.2.67\r\ntransfer-encoding: chunked\r\n\r\n\
                   1\r\nx\r\n0\r\ntrailer: x\r\n\r\n";
    let answer = raw(envoy.address(), request.as_bytes());
    assert!(!answer.contains("HTTP/1.1 200") && !answer.contains("hello from upstream"), "{answer}");
    assert_eq!(client.status_for("192.0.2.1"), 200);
    // Connections.
    drop(envoy);
    const PROXY_PROTOCOL: (&str, &str) = (
        "    filter_chains:\n",
        "    listener_filters:\n    - name: envoy.filters.listener.proxy_protocol\n      typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol }\n    filter_chains:\n",
    );
    let envoy = edgefold.envoy(EnvoyOptions { edits: &[PROXY_PROTOCOL], ..EnvoyOptions::NETWORK });
    let answer = |source: &str| {
        let request = format!(
            "PROXY TCP4 {source} 127.0.0.1 1000 80\r\nGET / HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n"
        );
        raw(envoy.address(), request.as_bytes())
    };
    for _ in 0..5 {
        assert_eq!(answer("192.0.2.66"), "");
        assert!(answer("192.0.2.1").contains(" 200 "));
    }
}

/// Found by a review: the lists of an overlay that came before its base had no metrics.
#[test]
fn lists_are_counted_whichever_of_a_pair_comes_first() {
    let edgefold = Edgefold::sqlite().with_host(Host::Native);
    append(&edgefold, singles("BLACKLIST", 0, MANY));
    append(&edgefold, ["BLACKLIST 192.0.2.1 list=feed"]);
    let _serve = edgefold.serve(&[]);
    // Its first listener is that of the overlay.
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    assert_eq!((client.status_for("20.0.0.3"), client.status_for("192.0.2.1")), (403, 403));
    let counted = ["default", "feed"].map(|list| envoy.list_metric("denied", list));
    assert_eq!(counted, [Some(1), Some(1)]);
}

/// Over gRPC, the module is on Envoy's host already.
#[test]
fn a_fleet_gets_a_base_and_overlays_over_grpc() {
    let edgefold = Edgefold::sqlite().with_host(Host::Native);
    let module = edgefold.run(&["module", "--native", "-o", &edgefold.path("")]);
    append(&edgefold, singles("BLACKLIST", 0, MANY));
    let serve = edgefold.serve_xds(&["--xds-module", module.trim()]);
    let replicas = [serve.xds_address()];
    let envoy =
        edgefold.envoy_over_xds(FleetOptions { id: "edge-1", xds: Xds::DeltaAds, replicas: &replicas, tls: None });
    let client = envoy.client("127.0.0.1");
    assert_eq!((client.status_for("20.0.0.3"), client.status_for("192.0.2.1")), (403, 200));
    edgefold.block(&["192.0.2.1"]);
    client.wait_for_status("192.0.2.1", 403);
    assert_eq!(serve.metric("edgefold_bases_shipped_total"), Some(1), "what came was an overlay");
}

/// Ships the HTTP filter as `serve` does, which has put the module beside the file, with this payload.
fn ship(file: &Path, shipment: &str, snapshot: Payload) {
    ship_with(file, shipment, snapshot, &module_beside(file));
}

fn module_beside(file: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "so")).unwrap()
}

fn ship_with(file: &Path, shipment: &str, snapshot: Payload, module: &Path) {
    let (code, kind, name, host) =
        (Code::File(module.to_str().unwrap()), FilterKind::Http, "edgefold", FilterHost::Native);
    let resource = Resource { kind, name, version: shipment, shipment, host, code, snapshot };
    replace_file(file, &resource.encode()).unwrap();
}

/// Envoy has no copy of a large snapshot: the module reads it, and takes nothing but what the resource names.
#[test]
fn a_large_snapshot_is_read_from_the_file_that_the_resource_names_and_no_other() {
    let edgefold = large().with_host(Host::Native);
    drop(edgefold.serve_whole(&[]));
    let file = edgefold.ecds_file();
    let shipped = std::fs::read(&file).unwrap();
    let Some(Payload::File(named)) = payload_in(&shipped.into()) else { panic!("the snapshot is in the resource") };
    assert_eq!(edgefold.inspect(&file)["fingerprint"], named.fingerprint.to_string());
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    let client = envoy.client("127.0.0.1");
    let statuses = || (client.status_for("20.0.0.3"), client.status_for("20.0.0.4"));
    assert_eq!(statuses(), (403, 200));

    // Another list, which is never where the resource says.
    edgefold.block(&["20.0.0.4"]);
    let next = edgefold.path("next");
    edgefold.run(&["snapshot", "-o", &next]);
    let next = std::fs::read(next).unwrap();
    let fingerprint = Fingerprint::of(&next).unwrap();
    let at = |name: &str| SnapshotFile { path: edgefold.path(name), fingerprint };
    let other = |name: &str, content: &[u8]| {
        let file = at(name);
        std::fs::write(&file.path, content).unwrap();
        file
    };
    let mut damaged = next.clone();
    damaged[100] ^= 1;
    assert!(Command::new("mkfifo").arg(edgefold.path("pipe")).status().unwrap().success());
    let longer = Fingerprint::from_text(&fingerprint.to_string(), u64::MAX).unwrap();
    let refused = [
        (at("missing"), "missing: No such file"),
        (at("pipe"), "pipe: it is no file"),
        (SnapshotFile { fingerprint: longer, ..at("next") }, "more than 256 MiB"),
        (other("other", b"something else"), "other: it is not the snapshot "),
        (other("damaged", &damaged), "damaged or truncated: the checksum is"),
    ];
    for (number, (file_named, reason)) in (1..).zip(refused) {
        ship(&file, reason, Payload::File(file_named));
        eventually(reason, || (envoy.metric("snapshot_rejected", "edgefold")? == number).then_some(()));
        envoy.wait_for_log_line(reason);
        assert_eq!(statuses(), (403, 200), "{reason}");
    }
    let admin = envoy.admin_url();
    let doctor =
        || edgefold.outcome(&["doctor", "--ecds-file", file.to_str().unwrap(), "--envoy-admin", &admin]).stdout;
    assert!(doctor().contains("it has refused 5 versions of the resource edgefold since it started"), "{}", doctor());
    assert!(!doctor().contains("it names the module"), "{}", doctor());
    // What the resource says last is that of the damaged file, whose checksum is only read with the rest.
    edgefold.outcome(&["inspect", file.to_str().unwrap()]).assert_failed(2, "damaged or truncated");
    let module = module_beside(&file);
    std::fs::rename(&module, edgefold.path("away")).unwrap();
    // The doctor reads the file before it looks for the module.
    ship_with(&file, "missing", Payload::Inline(next.into()), &module);
    assert!(
        doctor().contains(&format!("it names the module {}, which is not there", module.display())),
        "{}",
        doctor()
    );
    let serve = edgefold.serve_whole(&[]);
    client.wait_for_status("20.0.0.4", 403);
    let named = envoy.admin("config_dump?resource=ecds_filters");
    assert!(named.contains("snapshot_file") && named.len() < 4096, "{named}");
    drop(serve);
}

/// A snapshot of a later version of the format is refused by name, and what serves stays.
#[test]
fn a_snapshot_of_a_newer_format_is_refused() {
    let edgefold = Edgefold::sqlite().with_host(Host::Native).block(&["10.0.0.0/24"]);
    drop(edgefold.serve(&[]));
    let file = edgefold.ecds_file();
    let shipped = std::fs::read(&file).unwrap();
    let envoy = edgefold.envoy(EnvoyOptions::BEHIND_A_PROXY);
    envoy.wait_for_log_line("Dynamic module ABI version v0.2.0 matched");
    let client = envoy.client("127.0.0.1");
    assert_eq!((client.status_for("10.0.0.7"), client.status_for("10.0.1.7")), (403, 200));
    let mut newer = snapshot_in(&shipped.into()).unwrap().to_vec();
    newer[8] += 1;
    ship(&file, "newer", Payload::Inline(newer.into()));
    eventually("the refusal", || (envoy.metric("snapshot_rejected", "edgefold")? == 1).then_some(()));
    envoy.wait_for_log_line("snapshot refused: ");
    assert_eq!((client.status_for("10.0.0.7"), client.status_for("10.0.1.7")), (403, 200));
}

/// The example names the types of both hosts, so a restart of `serve` is all that it takes to change from one to the other.
#[test]
fn an_envoy_changes_from_one_host_to_the_other_and_no_request_fails() {
    for has_base in [true, false] {
        let wasm = if has_base { large() } else { Edgefold::sqlite() }.block(&["10.0.0.0/24"]);
        let native = wasm.clone().with_host(Host::Native);
        let start = |edgefold: &Edgefold| if has_base { edgefold.serve(&[]) } else { edgefold.serve_whole(&[]) };
        let mut serve = Some(start(&native));
        let envoy = native.envoy(EnvoyOptions::BEHIND_A_PROXY);
        let runs = |word: &str| envoy.admin("config_dump?resource=ecds_filters").matches(word).count();
        under_load(&envoy, || {
            for (round, edgefold) in (1_u64..).zip([&wasm, &native, &wasm, &native]) {
                drop(serve.take());
                serve = Some(start(edgefold));
                edgefold.block(&[&format!("10.0.1.{round}")]);
                envoy.client("127.0.0.1").wait_for_status(&format!("10.0.1.{round}"), 403);
                let (of_wasm, of_native) = (runs("wasm.v3.Wasm"), runs("DynamicModuleFilter"));
                let kinds = if has_base { 2 } else { 1 };
                let expected = if edgefold.host() == Host::Wasm { (kinds, 0) } else { (0, kinds) };
                assert_eq!((of_wasm, of_native), expected, "round {round}");
            }
        });
    }
}
