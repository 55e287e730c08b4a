//! The filters other than edgefold's own, each as the encoded `DiscoveryResponse` that Envoy reads from a file. All
//! contenders ship their lists this way.

use std::net::Ipv4Addr;

use edgefold_bench_lists::family::{Range, prefixes};
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::{
    AsyncDataSource, CidrRange, DataSource, TypedExtensionConfig, async_data_source,
};
use envoy_types::pb::envoy::config::rbac::v3::{
    Action, Permission, Policy, Principal, Rbac as Rules, permission, principal, rbac,
};
use envoy_types::pb::envoy::extensions::filters::http::lua::v3::Lua;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::matching::common_inputs::network::v3::SourceIpInput;
use envoy_types::pb::envoy::extensions::matching::input_matchers::ip::v3::Ip;
use envoy_types::pb::envoy::extensions::wasm::v3::{PluginConfig, VmConfig, plugin_config};
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::UInt32Value;
use envoy_types::pb::xds::core::v3::TypedExtensionConfig as XdsExtension;
use envoy_types::pb::xds::r#type::matcher::v3::{Matcher, matcher};
use envoy_types::util::pack_any;
use matcher::matcher_list::predicate::{MatchType, SinglePredicate, single_predicate};
use matcher::matcher_list::{FieldMatcher, Predicate};
use matcher::on_match::OnMatch as Outcome;
use matcher::{MatcherList, MatcherType, OnMatch};
use prost::{Message, Name};

/// The name of the resource, and of the filter in the chain.
pub(crate) const NAME: &str = "edgefold";
/// The type URLs of the filters that are not edgefold's.
pub(crate) const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
pub(crate) const LUA: &str = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";

/// A wasm module, configured with a snapshot.
pub(crate) fn wasm(version: u32, module: &[u8], snapshot: Vec<u8>) -> Vec<u8> {
    let code = DataSource { specifier: Some(Specifier::InlineBytes(module.to_vec())), ..Default::default() };
    let vm = VmConfig {
        runtime: "envoy.wasm.runtime.v8".to_owned(),
        code: Some(AsyncDataSource { specifier: Some(async_data_source::Specifier::Local(code)) }),
        ..Default::default()
    };
    let plugin = PluginConfig {
        name: NAME.to_owned(),
        vm: Some(plugin_config::Vm::VmConfig(vm)),
        configuration: Some(pack_any(snapshot)),
        ..Default::default()
    };
    discovery_response(version, Wasm { config: Some(plugin) })
}

/// RBAC with the matcher API: one IP matcher (a compressed trie) on the client's address.
pub(crate) fn rbac_matcher(version: u32, ranges: &[Range<u32>]) -> Vec<u8> {
    let input = extension("envoy.matching.inputs.source_ip", SourceIpInput {});
    let blocked = Ip { cidr_ranges: cidrs(ranges).collect(), stat_prefix: "blocked".to_owned() };
    let blocked = single_predicate::Matcher::CustomMatch(extension("envoy.matching.matchers.ip", blocked));
    let blocked = SinglePredicate { input: Some(input), matcher: Some(blocked) };
    let deny = FieldMatcher {
        predicate: Some(Predicate { match_type: Some(MatchType::SinglePredicate(blocked)) }),
        on_match: Some(on_match("deny", rbac::Action::Deny)),
    };
    let matcher = Matcher {
        matcher_type: Some(MatcherType::MatcherList(MatcherList { matchers: vec![deny] })),
        on_no_match: Some(Box::new(on_match("allow", rbac::Action::Allow))),
    };
    discovery_response(version, Rbac { matcher: Some(matcher), ..Default::default() })
}

/// RBAC with a policy that has a principal for each CIDR block.
pub(crate) fn rbac_principals(version: u32, ranges: &[Range<u32>]) -> Vec<u8> {
    let principals =
        cidrs(ranges).map(|cidr| Principal { identifier: Some(principal::Identifier::RemoteIp(cidr)) }).collect();
    let permissions = vec![Permission { rule: Some(permission::Rule::Any(true)) }];
    let policy = Policy { permissions, principals, ..Default::default() };
    let policies = [("blocked".to_owned(), policy)].into();
    let rules = Rules { action: rbac::Action::Deny.into(), policies, ..Default::default() };
    discovery_response(version, Rbac { rules: Some(rules), ..Default::default() })
}

/// A Lua script with the ranges and a binary search.
pub(crate) fn lua(version: u32, ranges: &[Range<u32>]) -> Vec<u8> {
    let numbers = |end: usize| ranges.iter().map(|range| range[end].to_string()).collect::<Vec<_>>().join(",");
    let script = include_str!("blocklist.lua").replace("FIRSTS", &numbers(0)).replace("LASTS", &numbers(1));
    let code = DataSource { specifier: Some(Specifier::InlineString(script)), ..Default::default() };
    discovery_response(version, Lua { default_source_code: Some(code), ..Default::default() })
}

fn discovery_response(version: u32, filter: impl Name) -> Vec<u8> {
    let extension = TypedExtensionConfig { name: NAME.to_owned(), typed_config: Some(pack_any(filter)) };
    DiscoveryResponse {
        version_info: version.to_string(),
        type_url: TypedExtensionConfig::type_url(),
        resources: vec![pack_any(extension)],
        ..Default::default()
    }
    .encode_to_vec()
}

fn on_match(name: &str, action: rbac::Action) -> OnMatch {
    let action = extension("action", Action { name: name.to_owned(), action: action.into() });
    OnMatch { on_match: Some(Outcome::Action(action)), ..Default::default() }
}

fn extension(name: &str, config: impl Name) -> XdsExtension {
    XdsExtension { name: name.to_owned(), typed_config: Some(pack_any(config)) }
}

fn cidrs(ranges: &[Range<u32>]) -> impl Iterator<Item = CidrRange> {
    prefixes(ranges).map(|(network, length)| CidrRange {
        address_prefix: Ipv4Addr::from_bits(network).to_string(),
        prefix_len: Some(UInt32Value { value: length.into() }),
    })
}
