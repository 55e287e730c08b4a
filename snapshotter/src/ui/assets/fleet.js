// The proxies: what each enforces, and what it refused.

import { ask } from "./ask.js";
import { ago, count, fill, make, number, visible } from "./words.js";

/** Shows who is connected. */
export async function showFleet() {
  const { proxies, next_offset: next } = await ask("/fleet");
  const behind = proxies.filter((proxy) => proxy.enforces_below === null || proxy.enforces_below < next);
  document.getElementById("fleet-summary").textContent = proxies.length === 0
    ? "No proxy is connected over gRPC. Those that read files are not seen here."
    : `${count(proxies.length, "proxy")}, ${behind.length === 0 ? "all enforce everything" : `${number(behind.length)} behind`}.`;
  fill(document.getElementById("fleet-table"), [proxies, next], ["Node", "Cluster", "Address", "State", "Has", "Refused last"],
    () => proxies.map((proxy) => [
      visible(proxy.node), visible(proxy.cluster), proxy.address, state(proxy, next), resources(proxy), nacks(proxy),
    ]), "Nobody is connected.");
}

function state(proxy, next) {
  if (proxy.enforces_below === null) return make("span", { className: "chip deny" }, "enforces nothing yet");
  const missing = next - proxy.enforces_below;
  return missing <= 0
    ? make("span", { className: "chip exempt" }, `enforces all, to offset ${number(proxy.enforces_below)}`)
    : make("span", { className: "chip shadow" }, `${count(missing, "command")} behind`);
}

function resources(proxy) {
  return make("ul", { className: "plain" }, proxy.resources.map((resource) => make("li", {},
    resource.name, " ", make("span", { className: "quiet" },
      resource.accepted_at === null ? "had it before" : `ACK ${ago(resource.accepted_at)}`, resource.is_current ? "" : ", not the newest"))));
}

function nacks(proxy) {
  const refused = proxy.resources.filter((resource) => resource.nack !== null);
  if (refused.length === 0) return "–";
  return make("ul", { className: "plain bad" }, refused.map(({ name, nack }) => make("li", {},
    `NACK ${ago(nack.at)}: ${name}, ${count(nack.times, "time")}: `, visible(nack.message))));
}
