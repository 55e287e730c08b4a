//! What `edgefold export` writes, in the programs that it is for: each loads the file, and refuses the addresses that edgefold refuses.
//!
//! [`Program::cannot_say`] leaves out the few addresses for which a program cannot do that, and says why.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edgefold::{IpRange, LogTime, now};
use edgefold_formats::Format;
use edgefold_tests::{Answer, CLIENT_HEADER, Edgefold, Proxy, in_own_network, seed, tool};
use fastrand::Rng;
use serde_json::{Value, json};

/// How many random ranges there are in each family.
const RANGES: usize = 120;
/// How many random addresses are sampled in each family, besides those at the ends of ranges.
const ADDRESSES: usize = 100;
/// The longest time that ipset counts.
const MOST_OF_IPSET: Duration = Duration::from_secs(2_147_483);
/// The longest time that edgefold writes for nftables: 100 years.
const MOST_OF_NFTABLES: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How much a time may differ that a program counts down while the test runs.
const TOLERANCE: Duration = Duration::from_secs(60);
/// When a list is made that is read back, and when it is exported and imported.
const BLOCKED: &str = "2026-01-01T00:00:00Z";
const COPIED: &str = "2026-01-01T01:00:00Z";

/// A log, and addresses with what happens to them.
struct World {
    edgefold: Edgefold,
    samples: Vec<Sample>,
    /// How many commands the log had when its lists were others.
    before: String,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    address: IpAddr,
    is_refused: bool,
    /// When that ends; `None` for never.
    until: Option<LogTime>,
}

impl World {
    /// Lists that refuse, a list that exempts with holes in it, and lists that neither do; blocks of both families, some with an end.
    fn mixed() -> Self {
        let mut random = Rng::with_seed(seed());
        let edgefold = Edgefold::sqlite();
        let run = |args: &[&str], ranges: &[String]| {
            let ranges = ranges.iter().map(String::as_str);
            edgefold.run(&args.iter().copied().chain(ranges).chain(["--force"]).collect::<Vec<_>>())
        };
        let before = run(&["block"], &ranges(&mut random, 20)).lines().count().to_string();
        for (list, action) in [("feed", "deny"), ("office", "exempt"), ("trial", "shadow"), ("cloud", "tag")] {
            edgefold.run(&["lists", "set", list, "--action", action]);
        }
        let by_hand = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        run(&["block"], &by_hand("0.0.0.0 10.0.0.1-10.0.0.6 10.0.0.7 10.0.0.8-10.0.0.20 192.0.2.0/24 2001:db8::/48"));
        run(
            &["block"],
            &by_hand(
                "255.255.255.250-255.255.255.252 255.255.255.255 ::1 ffff:ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ),
        );
        // Neighbours with other ends.
        run(&["block", "--ttl", "6h"], &by_hand("10.0.1.0-10.0.1.99 2001:db8:1::-2001:db8:1::9"));
        run(&["block", "--ttl", "90d"], &by_hand("10.0.1.100-10.0.1.200 2001:db8:1::a-2001:db8:1::ffff"));
        run(&["block", "--until", "2990-01-01T00:00:00Z"], &by_hand("10.0.1.201 2001:db8:1::1:0"));
        run(&["block"], &ranges(&mut random, RANGES / 4));
        run(&["block", "--ttl", "20d"], &ranges(&mut random, RANGES / 4));
        run(&["add", "--list", "feed"], &ranges(&mut random, RANGES / 4));
        run(&["add", "--list", "feed", "--ttl", "12h"], &ranges(&mut random, RANGES / 4));
        run(&["add", "--list", "office"], &by_hand("192.0.2.16/28 10.0.0.9-10.0.0.11 2001:db8:0:1::/64"));
        run(&["remove", "--list", "office"], &by_hand("192.0.2.20 2001:db8:0:1::5-2001:db8:0:1::7"));
        run(&["add", "--list", "office"], &ranges(&mut random, RANGES / 10));
        run(&["add", "--list", "trial"], &ranges(&mut random, RANGES / 10));
        run(&["add", "--list", "cloud"], &by_hand("198.51.100.0/24 2001:db8:2::/48"));
        run(&["allow"], &ranges(&mut random, RANGES / 10));
        let world = Self::of(edgefold, before, &mut random);
        let refused = world.refused();
        assert!(refused > 200 && refused + 200 < world.samples.len(), "{refused} of {}", world.samples.len());
        world
    }

    /// All addresses are refused.
    fn everything() -> Self {
        let edgefold = Edgefold::sqlite().block(&["192.0.2.0/24", "0.0.0.0/0", "::/0", "--force"]);
        let world = Self::of(edgefold, "1".to_owned(), &mut Rng::with_seed(seed()));
        assert_eq!(world.refused(), world.samples.len());
        world
    }

    /// No address is refused any more.
    fn nothing() -> Self {
        let edgefold =
            Edgefold::sqlite().block(&["192.0.2.0/24", "2001:db8::/32"]).allow(&["192.0.2.0/24", "2001:db8::/32"]);
        let world = Self::of(edgefold, "2".to_owned(), &mut Rng::with_seed(seed()));
        assert_eq!(world.refused(), 0);
        world
    }

    fn of(edgefold: Edgefold, before: String, random: &mut Rng) -> Self {
        let mut addresses: BTreeSet<IpAddr> =
            ["0.0.0.0", "255.255.255.255", "::", "::1", "2002:a00:1::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
                .iter()
                .chain(&["::ffff:10.0.0.1", "::ffff:192.0.2.16", "::10.0.0.1", "64:ff9b::10.0.0.1"])
                .map(|text| text.parse().unwrap())
                .collect();
        let entries: Vec<Value> = serde_json::from_str(&edgefold.run(&["list", "-o", "json"])).unwrap();
        for entry in &entries {
            let [first, last] = ["first", "last"].map(|end| entry[end].as_str().unwrap().parse().unwrap());
            addresses.extend([Some(first), Some(last), before_of(first), after_of(last)].into_iter().flatten());
        }
        for _ in 0..ADDRESSES {
            addresses.insert(Ipv4Addr::from(random.u32(..)).into());
            addresses.insert(Ipv6Addr::from(random.u128(..)).into());
            addresses.extend(range(random).map(|range| range.0));
        }
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let found = edgefold.outcome(&[&["check", "-o", "json"], &texts[..]].concat()).stdout;
        let found: Vec<Value> = serde_json::from_str(&found).unwrap();
        assert_eq!(found.len(), addresses.len());
        let samples = addresses.iter().zip(&found).map(|(address, found)| Sample::new(*address, found)).collect();
        Self { edgefold, samples, before }
    }

    fn refused(&self) -> usize {
        self.samples.iter().filter(|sample| sample.is_refused).count()
    }

    /// Writes what is refused in a format, and returns the file.
    fn export(&self, format: &str) -> PathBuf {
        self.export_at(format, format, &[])
    }

    /// The same for the log as it was before.
    fn export_before(&self, format: &str) -> PathBuf {
        self.export_at(format, &format!("{format}-before"), &["--until-offset", &self.before])
    }

    fn export_at(&self, format: &str, file: &str, args: &[&str]) -> PathBuf {
        let path = self.edgefold.path(file);
        self.edgefold.run(&[&["export", "--format", format, "-o", &path], args].concat());
        path.into()
    }
}

impl Sample {
    fn new(address: IpAddr, found: &Value) -> Self {
        let is_refused = found["verdict"]["action"] == "deny";
        let ends = found["entries"].as_array().unwrap().iter();
        let ends = ends.filter(|entry| entry["does"].as_str().unwrap().starts_with("action=deny"));
        let ends: Vec<Option<LogTime>> =
            ends.map(|entry| entry["until"].as_str().map(|until| until.parse().unwrap())).collect();
        let until = if ends.contains(&None) { None } else { ends.into_iter().flatten().max() };
        Self { address, is_refused, until }
    }
}

/// Random ranges of both families, near each other so that some touch and overlap.
fn ranges(random: &mut Rng, count: usize) -> Vec<String> {
    (0..count).flat_map(|_| range(random)).map(|(first, last)| format!("{first}-{last}")).collect()
}

/// A random range of each family.
fn range(random: &mut Rng) -> [(IpAddr, IpAddr); 2] {
    let length = 1_u32 << random.u32(..12);
    // From 10.16.0.0 on, beside what is written by hand.
    let first = (10 << 24) + (1 << 20) + random.u32(..1 << 18);
    let v4 = [first, first + random.u32(..length)].map(|bits| Ipv4Addr::from(bits).into());
    let unit = 1_u128 << [0, 16, 64, 80][random.usize(..4)];
    let first = (0x2001_0db8_1000_u128 << 80) + u128::from(random.u16(..)) * unit;
    let last = first + u128::from(random.u32(..length)) * unit + random.u128(..unit);
    [v4.into(), [first, last].map(|bits| Ipv6Addr::from(bits).into()).into()]
}

fn before_of(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from(bits).into()),
        IpAddr::V6(address) => address.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from(bits).into()),
    }
}

fn after_of(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| Ipv4Addr::from(bits).into()),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| Ipv6Addr::from(bits).into()),
    }
}

/// A program with a file of one format.
struct Program {
    /// Loads the file, and says of each address whether the program refuses it.
    verdicts: fn(&World, &[IpAddr]) -> Vec<bool>,
    /// Whether an address is another one to the program, or none at all.
    cannot_say: fn(IpAddr) -> bool,
}

impl Program {
    #[track_caller]
    fn check(&self, world: &World) {
        let samples: Vec<Sample> =
            world.samples.iter().copied().filter(|sample| !(self.cannot_say)(sample.address)).collect();
        let addresses: Vec<IpAddr> = samples.iter().map(|sample| sample.address).collect();
        let verdicts = (self.verdicts)(world, &addresses);
        assert_eq!(verdicts.len(), samples.len());
        let wrong: Vec<_> =
            samples.iter().zip(&verdicts).filter(|(sample, is_refused)| sample.is_refused != **is_refused).collect();
        assert!(wrong.is_empty(), "of {} addresses, {} differ: {wrong:?}", samples.len(), wrong.len());
    }
}

/// Makes three tests of each program: `PROGRAM::refuses_what_edgefold_refuses`, and the two extremes.
macro_rules! programs {
    ($($program:ident: $cannot_say:ident,)+) => { $(
        mod $program {
            const PROGRAM: super::Program = super::Program { verdicts: super::$program, cannot_say: super::$cannot_say };

            #[test]
            fn refuses_what_edgefold_refuses() {
                PROGRAM.check(&super::World::mixed());
            }

            #[test]
            fn refuses_all_addresses() {
                PROGRAM.check(&super::World::everything());
            }

            #[test]
            fn refuses_nothing_when_the_list_is_empty() {
                PROGRAM.check(&super::World::nothing());
            }
        }
    )+ };
}

programs! {
    nginx_deny: no_address_of_nginx,
    nginx_geo: no_address_of_nginx,
    haproxy_acl: ipv4_of_haproxy,
    haproxy_map: ipv4_of_haproxy,
    nftables: is_mapped,
    nftables_json: is_mapped,
    ipset: is_mapped,
    envoy_rbac: no_address,
    mmdb: ipv4_of_mmdb,
}

fn no_address(_: IpAddr) -> bool {
    false
}

/// nginx takes this address in a header for one that it cannot read (`INADDR_NONE`).
fn no_address_of_nginx(address: IpAddr) -> bool {
    address.to_canonical() == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// HAProxy looks up these IPv6 addresses as the IPv4 addresses in them too, and so refuses more than edgefold does.
fn ipv4_of_haproxy(address: IpAddr) -> bool {
    is_in("::/96", address) || is_in("2002::/16", address)
}

/// No packet should have an IPv4-mapped address. A program may see an IPv4 client as one, but a rule of the kernel sees its IPv4 packets.
fn is_mapped(address: IpAddr) -> bool {
    address.to_canonical() != address
}

/// MaxMind databases have the IPv4 addresses there.
fn ipv4_of_mmdb(address: IpAddr) -> bool {
    is_in("::/96", address)
}

fn is_in(block: &str, address: IpAddr) -> bool {
    let block: IpRange = block.parse().unwrap();
    address.is_ipv4() == block.first().is_ipv4() && (block.first()..=block.last()).contains(&address)
}

fn nginx_deny(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    let file = world.export("nginx-deny");
    let nginx = world.edgefold.nginx("", &format!("include {};", file.display()));
    proxy_verdicts(&nginx, &file, addresses, is_refused)
}

fn nginx_geo(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    let file = world.export("nginx-geo");
    let nginx =
        world.edgefold.nginx(&format!("include {};", file.display()), "add_header x-listed $edgefold_edgefold;");
    proxy_verdicts(&nginx, &file, addresses, is_listed)
}

fn haproxy_acl(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    let file = world.export("haproxy-acl");
    let refuse = format!("http-request deny if {{ req.hdr_ip({CLIENT_HEADER}) -f {} }}", file.display());
    let haproxy = world.edgefold.haproxy(&format!("{refuse}\nhttp-request return status 200"));
    proxy_verdicts(&haproxy, &file, addresses, is_refused)
}

fn haproxy_map(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    let file = world.export("haproxy-map");
    let value = format!("%[req.hdr_ip({CLIENT_HEADER}),map_ip({},0)]", file.display());
    let haproxy = world.edgefold.haproxy(&format!("http-request return status 200 hdr x-listed {value}"));
    proxy_verdicts(&haproxy, &file, addresses, is_listed)
}

fn proxy_verdicts(proxy: &Proxy, file: &Path, addresses: &[IpAddr], verdict: fn(&Answer) -> bool) -> Vec<bool> {
    let verdicts = addresses.iter().map(|address| verdict(&proxy.answer_to(*address))).collect();
    let (output, file) = (proxy.output(), file.display().to_string());
    assert!(!output.contains(&file), "a warning about what is exported:\n{output}");
    verdicts
}

fn is_refused(answer: &Answer) -> bool {
    match answer.status {
        200 => false,
        403 => true,
        _ => panic!("{answer:?}"),
    }
}

fn is_listed(answer: &Answer) -> bool {
    match answer.header("x-listed")[..] {
        ["0"] => false,
        ["1"] => true,
        _ => panic!("{answer:?}"),
    }
}

fn nftables(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    nft_verdicts(world, "nftables", "nft", addresses)
}

fn nftables_json(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    nft_verdicts(world, "nftables-json", "nft -j", addresses)
}

/// Loads `$1` and then `$2`, and runs the commands on stdin. Prints what they print, and then their errors, which are in `$3` meanwhile:
/// in one file they would be written into each other.
const NFT: &str = r#"
nft add table inet edgefold || { echo "this kernel has no nftables: it needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET" >&2; exit 1; }
NFT -f "$1"
NFT -f "$2"
nft --interactive 2> "$3"
cat "$3"
"#;

fn nft_verdicts(world: &World, format: &str, nft: &str, addresses: &[IpAddr]) -> Vec<bool> {
    let files = [world.export_before(format), world.export(format), world.edgefold.path("errors").into()];
    let ask = |address: &IpAddr| format!("get element inet edgefold edgefold-v{} {{ {address} }}\n", family(*address));
    let answers = in_own_network(&NFT.replace("NFT", nft), &files, addresses.iter().map(ask).collect());
    // Each answer is a set with the range that contains the address, or an error with the command.
    let refused = answers.matches("elements = {").count();
    let mut passed: BTreeSet<IpAddr> = BTreeSet::new();
    for error in answers.split("Error: ").skip(1) {
        let command = error.strip_prefix("Could not process rule: No such file or directory\n");
        let command = command.unwrap_or_else(|| panic!("{error}")).lines().next().unwrap();
        let (_, address) = command.trim_end_matches([' ', '}']).rsplit_once(' ').unwrap();
        passed.insert(address.parse().unwrap());
    }
    assert_eq!(refused + passed.len(), addresses.len(), "not every address was answered for:\n{answers}");
    addresses.iter().map(|address| !passed.contains(address)).collect()
}

/// The same. All answers are errors to ipset.
const IPSET: &str = r#"
ipset create probe hash:net || { echo "this kernel has no ipset: it needs CONFIG_IP_SET and CONFIG_IP_SET_HASH_NET" >&2; exit 1; }
ipset restore -f "$1"
ipset restore -f "$2"
ipset - 2> "$3" > /dev/null
cat "$3"
"#;

fn ipset(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    let files = [world.export_before("ipset"), world.export("ipset"), world.edgefold.path("errors").into()];
    let ask = |address: &IpAddr| format!("test edgefold-v{} {address}\n", family(*address));
    let answers = in_own_network(IPSET, &files, addresses.iter().map(ask).collect());
    let mut refused: BTreeMap<IpAddr, bool> = BTreeMap::new();
    for line in answers.lines() {
        let is_refused = match line.split_once(" is ") {
            Some((_, words)) if words.starts_with("in set ") => true,
            Some((_, words)) if words.starts_with("NOT in set ") => false,
            _ => panic!("{line}"),
        };
        let address = line.trim_start_matches("Warning: ").split(' ').next().unwrap();
        refused.insert(address.parse().unwrap(), is_refused);
    }
    let answer = |address| *refused.get(address).unwrap_or_else(|| panic!("no answer for {address}:\n{answers}"));
    addresses.iter().map(answer).collect()
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { 4 } else { 6 }
}

fn envoy_rbac(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    let filter = serde_json::from_slice(&std::fs::read(world.export("envoy-rbac")).unwrap()).unwrap();
    let envoy = world.edgefold.envoy_with(&envoy_with(&filter));
    let client = envoy.client("127.0.0.1");
    let verdicts = addresses.iter().map(|address| match client.status_for(&address.to_string()) {
        200 => false,
        403 => true,
        status => panic!("{status} for {address}"),
    });
    verdicts.collect()
}

/// An Envoy behind a proxy, with this filter.
fn envoy_with(filter: &Value) -> String {
    let listens = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
    });
    let routes = json!([{ "match": { "prefix": "/" }, "direct_response": { "status": 200 } }]);
    let manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let manager = json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": format!("type.googleapis.com/{manager}"),
        "stat_prefix": "ingress",
        "use_remote_address": true,
        "xff_num_trusted_hops": 1,
        "http_filters": [filter, router],
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
    }});
    let listener = json!({ "name": "ingress", "address": listens, "filter_chains": [{ "filters": [manager] }] });
    json!({ "admin": { "address": listens }, "static_resources": { "listeners": [listener] } }).to_string()
}

/// Asks libmaxminddb, which shares no code with the reader or the writer of edgefold.
fn mmdb(world: &World, addresses: &[IpAddr]) -> Vec<bool> {
    let file = world.export("mmdb");
    let verdict = |address: &IpAddr| {
        let mut lookup = Command::new(tool("bin/mmdblookup"));
        lookup.arg("--file").arg(&file).args(["--ip", &address.to_string(), "listed"]);
        let output = lookup.output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        match (output.status.code(), stdout.trim()) {
            (Some(0), "true <boolean>") => true,
            (Some(6), _) => false,
            _ => panic!("{address}: {output:?}"),
        }
    };
    addresses.iter().map(verdict).collect()
}

/// Loads `$1`, and prints what the program says that it has.
const NFT_LIST: &str = r#"NFT -f "$1"; NFT list ruleset"#;
const IPSET_SAVE: &str = r#"ipset restore -f "$1"; ipset save"#;

#[test]
fn what_nftables_prints_reads_back_with_its_ends() {
    assert_printed_reads_back("nftables", &NFT_LIST.replace("NFT", "nft"), MOST_OF_NFTABLES);
}

#[test]
fn what_nftables_prints_as_json_reads_back_with_its_ends() {
    assert_printed_reads_back("nftables-json", &NFT_LIST.replace("NFT", "nft -j"), MOST_OF_NFTABLES);
}

#[test]
fn what_ipset_saves_reads_back_with_its_ends() {
    assert_printed_reads_back("ipset", IPSET_SAVE, MOST_OF_IPSET);
}

/// `most` is the longest time that the program counts.
#[track_caller]
fn assert_printed_reads_back(format: &str, script: &str, most: Duration) {
    let world = World::mixed();
    let printed = world.edgefold.path("printed");
    let latest = now().checked_add(most).unwrap();
    std::fs::write(&printed, in_own_network(script, &[world.export(format)], String::new())).unwrap();
    world.edgefold.run(&["import", &printed, "--list", "copy", "--format", format, "--force"]);
    let samples: Vec<_> = world.samples.iter().filter(|sample| !is_mapped(sample.address)).collect();
    let addresses: Vec<String> = samples.iter().map(|sample| sample.address.to_string()).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let found = world.edgefold.outcome(&[&["check", "--list", "copy", "-o", "json"], &addresses[..]].concat()).stdout;
    let found: Vec<Value> = serde_json::from_str(&found).unwrap();
    assert_eq!(found.len(), samples.len());
    let mut counted = 0;
    for (sample, found) in samples.into_iter().zip(&found) {
        let entry = found["entries"].get(0);
        assert_eq!(entry.is_some(), sample.is_refused, "{sample:?}: {found}");
        let until = entry.and_then(|entry| entry["until"].as_str()).map(|until| until.parse::<LogTime>().unwrap());
        let expected = sample.until.filter(|_| sample.is_refused).map(|until| until.min(latest));
        let millis = [until, expected].map(|until| until.map_or(0, LogTime::millis));
        assert!(millis[0].abs_diff(millis[1]) < TOLERANCE.as_millis().try_into().unwrap(), "{sample:?}: {found}");
        counted += u32::from(expected.is_some());
    }
    assert!(counted > 100, "only {counted} addresses of blocks that end");
}

/// Makes a test of each format, `FORMAT::is_read_back`, and of whether these are all.
macro_rules! read_back {
    ($($module:ident $format:literal,)+) => {
        mod read_back {
            $( #[test] fn $module() { super::assert_reads_back($format); } )+

            #[test]
            fn every_format_is_tested() {
                let tested = [$($format),+];
                let formats = super::Format::ALL.iter().filter(|format| format.is_read() && format.is_written());
                assert_eq!(formats.map(|format| format.name()).collect::<Vec<_>>(), tested);
            }
        }
    };
}

read_back! {
    lines "lines",
    cidr "cidr",
    ranges "ranges",
    haproxy_map "haproxy-map",
    haproxy_acl "haproxy-acl",
    csv "csv",
    ipset "ipset",
    nftables "nftables",
    nftables_json "nftables-json",
    nginx_deny "nginx-deny",
    nginx_geo "nginx-geo",
    mikrotik "mikrotik",
    f5 "f5",
    cisco "cisco",
    juniper "juniper",
    json "json",
    crowdsec "crowdsec",
    envoy_rbac "envoy-rbac",
    mmdb "mmdb",
}

/// Exports a list, and imports it into another one, at the same time by the commands.
#[track_caller]
fn assert_reads_back(format: &str) {
    let mut random = Rng::with_seed(seed());
    let edgefold = Edgefold::sqlite();
    let by_hand = "0.0.0.0 10.0.0.1-10.0.0.6 10.0.0.7 255.255.255.250-255.255.255.252 255.255.255.255 2001:db8::/48 ffff:ffff::/32";
    for (term, by_hand) in [
        (&[][..], by_hand),
        (&["--ttl", "6h"], "10.0.1.0-10.0.1.99 2001:db8:1::-2001:db8:1::9"),
        (&["--ttl", "20d"], "10.0.1.100-10.0.1.200 2001:db8:1::a-2001:db8:1::ffff 192.0.2.1"),
    ] {
        let random = ranges(&mut random, RANGES / 4);
        let ranges: Vec<&str> = by_hand.split(' ').chain(random.iter().map(String::as_str)).collect();
        edgefold.run(&[&["block", "--at", BLOCKED, "--force"], term, &ranges].concat());
    }
    let file = edgefold.path("exported");
    edgefold.run(&["export", "--list", "default", "--format", format, "--as-of", COPIED, "-o", &file]);
    edgefold.run(&["import", &file, "--list", "copy", "--format", format, "--at", COPIED, "--force"]);
    let joined = |list: &str| {
        let text = edgefold.run(&["export", "--list", list, "--format", "ranges", "--as-of", COPIED]);
        // nginx cannot read this address in a `deny`, so it is not written.
        let is_kept = |line: &&str| format != "nginx-deny" || *line != "255.255.255.255-255.255.255.255";
        text.lines().filter(is_kept).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(joined("copy"), joined("default"), "other ranges");
    if format.parse::<Format>().unwrap().says_ends() {
        let ends = |list: &str| edgefold.run(&["list", "--list", list, "-o", "raw", "--as-of", COPIED]);
        assert_eq!(ends("copy"), ends("default"), "other ends");
    }
}
