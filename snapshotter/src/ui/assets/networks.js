// The selected range: how much of it is refused, by which lists, and where: the map as a table.

import { showHistory } from "./address.js";
import { ask } from "./ask.js";
import { flyTo } from "./map.js";
import { look, moment, server, set, since } from "./state.js";
import { ago, count, make, number, share, show, time, visible } from "./words.js";
import { writeForms } from "./write.js";

const here = document.getElementById("here");
/** The parts of the panel, from top to bottom. */
const parts = Object.fromEntries(["what", "recent", "changed", "table", "history", "write"].map((name) => {
  const part = make("div", { className: name });
  here.append(part);
  return [name, part];
}));
let asking = null;

/** Selects a range, and shows it on the map. */
export function go(range) {
  const isFromHere = document.activeElement?.closest("#here, #bars") !== null;
  set({ view: "map", range });
  flyTo(range);
  // What was clicked is about to go.
  if (isFromHere) here.focus({ preventScroll: true });
}

/** The networks around a range, the widest first. */
function around(range) {
  const [first, length] = range.split("/");
  if (first.includes(":")) {
    return range === "::/0" ? [] : ["::/0"];
  }
  if (range.includes("-")) return ["0.0.0.0/0"];
  const bytes = first.split(".").map(Number);
  const all = [0, 8, 16, 24].filter((wide) => wide < Number(length ?? 32));
  return all.map((wide) => `${bytes.map((byte, at) => (at < wide / 8 ? byte : 0)).join(".")}/${wide}`);
}

/** Shows what is on the lists in the selected range. */
export async function showHere() {
  asking?.abort();
  asking = new AbortController();
  const { signal } = asking;
  const { range } = look;
  const then = since();
  const [area, changes] = await Promise.all([
    ask("/ui/area", { range, ...moment() }, signal),
    then === "" ? null : ask("/ui/changes", { range, ...moment(), since: then }, signal),
  ]);
  const isOne = area.verdict !== undefined;
  here.dataset.range = area.range;
  here.classList.toggle("six", area.range.includes(":"));
  show(parts.what, [area, look.at], () => [path(range, area.range), verdict(area), lists(area)]);
  show(parts.recent, isEverything(range) ? server.status.recent : null, () => isEverything(range) && recent());
  show(parts.changed, [changes, then], () => changes !== null && compared(changes, then));
  show(parts.table, isOne ? null : area, () => !isOne && table(area));
  writeForms(parts.write, area.range);
  await showHistory(parts.history, area.range, isOne, signal);
  here.dataset.shown = area.range;
}

function isEverything(range) {
  return range.endsWith("/0");
}

/** The last commands of the log. */
function recent() {
  const { recent: commands } = server.status;
  return make("section", { ariaLabel: "Latest commands" }, make("h3", {}, "Latest commands"),
    commands.length === 0 && make("p", { className: "quiet" }, "None since this page began to read the log."),
    make("ol", {}, commands.slice(0, 6).map((command) => make("li", {},
      make("code", {}, visible(command.text)), " ",
      make("span", { className: "quiet" }, `${ago(command.time)} `),
      command.range !== null && make("button", { type: "button", className: "link", onclick: () => go(command.range) }, "show")))));
}

function path(range, name) {
  const links = around(range).map((wide) => make("a", { href: "#", onclick: (event) => { event.preventDefault(); go(wide); } }, wide));
  return make("div", {},
    links.length > 0 && make("nav", { className: "path", ariaLabel: "Networks around it" }, links.flatMap((link) => [link, " › "])),
    make("h2", {}, name));
}

function verdict(area) {
  const refused = area.refused.addresses;
  const only = look.list === "" ? "refused" : `on list ${look.list}`;
  if (area.verdict !== undefined) {
    const { action, list } = area.verdict;
    const words = look.list !== "" ? (refused === "1" ? only : `not ${only}`)
      : action === "deny" ? `refused by list ${list}` : action === "exempt" ? `passes: list ${list} exempts it` : "passes";
    const isBad = look.list === "" ? action === "deny" : refused === "1";
    return make("p", { className: isBad ? "verdict bad" : "verdict good" }, words);
  }
  return make("p", { className: "verdict" },
    make("b", {}, share(refused, area.addresses)), ` of ${count(area.addresses, "address")} ${only}: `,
    `${number(refused)} in ${count(area.refused.ranges, "range")}`);
}

function lists(area) {
  if (area.lists.length === 0) return make("p", { className: "quiet" }, "Nothing of it is on a list.");
  return make("ul", { className: "on-lists" }, area.lists.map((list) => make("li", {},
    make("b", {}, list.name), " ", chip(list.action), ` ${count(list.ranges, "range")}, ${count(list.addresses, "address")}`,
    list.ranges <= 4 && make("ul", {}, list.blocks.map((block) => make("li", {}, block.range, " ", make("span", { className: "quiet" }, until(block.until))))))));
}

/** When a block ends. */
function until(end) {
  return end === null ? "forever" : `until ${time(end)}, ${ago(end, look.at === "" ? Date.now() : Date.parse(look.at))}`;
}

/** What a list does. */
export function chip(action) {
  return make("span", { className: `chip ${action}` }, action);
}

function compared(changes, then) {
  const side = (name, sign, { ranges, addresses, named }) => make("details", { className: name },
    make("summary", {}, `${sign} ${count(addresses, "address")} in ${count(ranges, "range")}`),
    make("ul", {}, named.map((range) => make("li", {}, select(range)))));
  return make("div", {}, make("h3", {}, `Compared with ${time(then)}`), side("added", "+", changes.added), side("removed", "−", changes.removed));
}

function select(range) {
  // A long one is broken in the middle.
  const parts = range.split(/(?<=-)/).map((part) => make("span", { className: "whole" }, part));
  return make("button", { type: "button", className: "link", onclick: () => go(range) }, parts);
}

function table(area) {
  if (area.rows.length === 0) return make("p", {});
  const rows = area.rows.map((row) => make("tr", {},
    make("td", {}, select(row.range)),
    make("td", { className: "number" }, number(row.listed)),
    make("td", {}, meter(row.listed, row.addresses))));
  const heads = ["Network", look.list === "" ? "Refused" : "Listed", "Share"];
  return make("table", {},
    make("caption", { className: "unseen" }, `What is refused in ${visible(area.range)}`),
    make("thead", {}, make("tr", {}, heads.map((head, at) => make("th", { scope: "col", className: at === 1 ? "number" : "" }, head)))),
    make("tbody", {}, rows));
}

/** A share as a bar, with its words. */
export function meter(part, whole) {
  const percent = Number((BigInt(part) * 1000n) / BigInt(whole)) / 10;
  const bar = make("span", { className: "bar", ariaHidden: "true" }, make("span", {}));
  bar.firstChild.style.width = `${Math.max(2, percent)}%`;
  return make("span", { className: "meter" }, bar, share(part, whole));
}
