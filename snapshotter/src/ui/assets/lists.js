// The lists: what they do, how much is on them, and how they have grown.

import { ask } from "./ask.js";
import { chip } from "./networks.js";
import { look, server, set } from "./state.js";
import { ago, draw, fill, make, number, visible } from "./words.js";
import { listForm } from "./write.js";

const table = document.getElementById("lists-table");
const forms = document.getElementById("list-write");
let growth = [];

/** Shows the lists at the moment of the slider. */
export async function showLists() {
  const { lists, at } = await ask("/ui/lists", { at: look.at });
  const row = (list) => [
    make("button", { type: "button", className: "link", onclick: () => set({ view: "map", list: list.name }) }, list.name),
    [chip(list.action), list.is_stated && list.does !== `action=${list.action}` && make("span", { className: "quiet" }, ` ${visible(list.does)}`)],
    amount(list.ranges), amount(list.ipv4_addresses), amount(list.ipv6_addresses),
    list.next_expiry === null ? "–" : ago(list.next_expiry, Date.parse(at)),
    sparkline(list),
  ];
  fill(table, [lists, growth, look.at], ["List", "Does", "#Ranges", "#IPv4 addresses", "#IPv6 addresses", "Next end", "Ranges over time"],
    () => lists.map(row), "There are no lists.");
  if (forms.childElementCount === 0 && server.status.can_write) forms.replaceChildren(listForm());
}

/** Shows how the lists have grown. That takes longer, the first time. */
export async function showGrowth() {
  growth = (await ask("/ui/growth")).samples;
  await showLists();
}

function amount(value) {
  return make("span", { className: "number" }, number(value));
}

function sparkline(list) {
  const points = growth.map(({ at, ranges }) => [at, ranges[list.name] ?? 0]);
  if (look.at === "") points.push([Date.now(), list.ranges]);
  if (points.length < 2) return make("span", { className: "quiet" }, "–");
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const most = Math.max(1, ...points.map(([, ranges]) => ranges));
  const x = (at) => ((at - first) / Math.max(1, last - first)) * 120;
  const y = (ranges) => 23 - (ranges / most) * 22;
  const words = `from ${number(points[0][1])} to ${number(points.at(-1)[1])} ranges, at most ${number(most)}`;
  const line = draw("svg", { viewBox: "0 0 120 24", width: 120, height: 24, class: "spark", role: "img", "aria-label": words });
  line.append(draw("polyline", { points: points.map(([at, ranges]) => `${x(at).toFixed(1)},${y(ranges).toFixed(1)}`).join(" ") }));
  return line;
}
