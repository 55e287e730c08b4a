// The page: which view is shown, what is asked for when something changes, and the search.

import { ask } from "./ask.js";
import { showFleet } from "./fleet.js";
import { isIpv6, showBars } from "./ipv6.js";
import { showGrowth, showLists } from "./lists.js";
import { sayHealth, showHealth, showLog } from "./log.js";
import { flyTo, forget, palette, redraw, refresh } from "./map.js";
import { go, showHere } from "./networks.js";
import { isOpen, look, onLook, server, set } from "./state.js";
import { showTimeline } from "./time.js";
import { duration, make } from "./words.js";

const VIEWS = { map: showMap, lists: showLists, fleet: showFleet, log: showLog };
const find = (id) => document.getElementById(id);

function showMap() {
  const six = isIpv6();
  find("map").hidden = six;
  find("bars").hidden = !six;
  find("family-4").setAttribute("aria-pressed", String(!six));
  find("family-6").setAttribute("aria-pressed", String(six));
  find("colour").disabled = six || look.since !== "";
  return Promise.all([showLegend(), showHere(), six && showBars()]);
}

/** What the colours of the map mean. */
async function showLegend() {
  const kind = look.since !== "" ? "change" : look.colour;
  const spans = server.status.spans.map(duration);
  const lists = kind !== "list" || look.at === "" ? server.status.lists
    : (await ask("/ui/lists", { at: look.at })).lists.map((list) => list.name);
  const words = isIpv6() ? [] : {
    change: ["came", "went"],
    refused: [look.list === "" ? "refused" : "on the list"],
    list: lists,
    action: ["refused", "exempt", "only reported", "tagged"],
    left: [...spans.map((span) => `less than ${span}`), "longer", "forever"],
    age: [...spans.map((span) => `up to ${span}`), "older"],
  }[kind];
  const shades = palette(kind);
  find("legend").replaceChildren(...words.map((word, at) => {
    const colour = make("span", { className: "swatch", ariaHidden: "true" });
    colour.style.background = `rgb(${shades[at % shades.length].join(" ")})`;
    return make("li", {}, colour, word);
  }));
}

/** Shows what is looked at. */
async function show(before) {
  for (const view of Object.keys(VIEWS)) {
    find(`view-${view}`).hidden = view !== look.view;
    const link = document.querySelector(`#views a[href="#${view}"]`);
    if (view === look.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  find("colour").value = look.colour;
  showListNames();
  // Before the log is read, there is nothing to show but how far it is read.
  if (server.status === null || (!server.status.is_complete && look.view !== "log" && look.view !== "fleet")) return;
  await attempt("view", VIEWS[look.view]);
  // It may take long, and comes when it comes.
  if (look.view === "lists" && before?.view !== "lists") attempt("growth", showGrowth);
}

/** The lists that the map can be of. */
function showListNames() {
  const names = [...new Set([...(server.status?.lists ?? []), look.list])].filter((name) => name !== "");
  const select = find("list");
  if ([...select.options].slice(1).map((option) => option.value).join() !== names.join()) {
    select.replaceChildren(make("option", { value: "" }, "all"), ...names.map((name) => make("option", { value: name }, name)));
  }
  select.value = look.list;
}

/** What went wrong, by what was attempted. */
const troubles = new Map();

/** Shows what goes wrong, until the same goes well. */
async function attempt(what, work) {
  try {
    await work();
    note(what, null);
  } catch (error) {
    if (error.name !== "AbortError") note(what, error);
  }
}

function note(what, error) {
  if (error === null) troubles.delete(what);
  else troubles.set(what, error.reading ? `${error.message}: ${error.reading.done} of ${error.reading.end} commands` : error.message);
  const words = [...new Set(troubles.values())].join(" ");
  const notice = find("notice");
  notice.hidden = words === "";
  if (notice.textContent !== words) notice.textContent = words;
}

/** Asks how the log is doing, and for all that has changed. */
async function update() {
  await attempt("status", async () => {
    const before = server.status;
    server.status = await ask("/ui/status");
    showHealth();
    document.querySelector('#views a[href="#fleet"]').hidden = !server.status.has_fleet;
    if (before !== null && server.status.next_offset < before.next_offset) forget();
    if (server.status.is_complete) {
      // The map first: all else may take longer.
      if (isOpen()) refresh();
      if (look.view === "map") await showTimeline();
    }
    await show(before === null ? null : look);
    if (server.status.is_complete) document.body.dataset.offset = server.status.next_offset;
  });
}

/** Does it now, and if it is asked for meanwhile, once more afterwards. */
function oneAtATime(work) {
  let isRunning = false;
  let again = false;
  return async () => {
    again = true;
    if (isRunning) return;
    isRunning = true;
    while (again) {
      again = false;
      await work();
    }
    isRunning = false;
  };
}

const updated = oneAtATime(update);
const heard = oneAtATime(() => attempt("view", showFleet));
let events = null;

/** Hears of changes as long as the page is seen. Otherwise it would hold a connection, and keep the server busy. */
function listen() {
  events?.close();
  if (document.hidden) return;
  updated();
  events = new EventSource("/ui/events");
  events.onmessage = ({ data }) => {
    if (data === "log") updated();
    else if (look.view === "fleet") heard();
  };
  events.onopen = updated;
  events.onerror = () => {
    sayHealth("bad", "edgefold does not answer");
    // Otherwise the browser tries again by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 5_000);
  };
}
addEventListener("pagehide", () => events?.close());
addEventListener("pageshow", listen);
document.addEventListener("visibilitychange", listen);
// Blocks end without a command, and times are shown as how long ago they are.
setInterval(() => document.hidden || updated(), 30_000);

find("canvas").addEventListener("asked", ({ detail: { what, error } }) => note(what, error));
find("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  await attempt("search", async () => {
    const area = await ask("/ui/area", { range: find("search-text").value.trim(), at: look.at });
    go(area.range);
    find("here").focus({ preventScroll: true });
  });
});
find("search-text").addEventListener("input", () => note("search", null));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  find("here").focus();
});
document.querySelectorAll("#views a").forEach((link) => link.addEventListener("click", (event) => {
  event.preventDefault();
  set({ view: link.hash.slice(1) });
}));
find("family-4").addEventListener("click", () => isIpv6() && go("0.0.0.0/0"));
find("family-6").addEventListener("click", () => isIpv6() || set({ range: "::/0" }));
find("colour").addEventListener("change", (event) => set({ colour: event.target.value }));
find("list").addEventListener("change", (event) => set({ list: event.target.value }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => attempt("legend", showLegend));

onLook((before, isBrowsed) => {
  if (before.range !== look.range && !isIpv6() && (isBrowsed || before.range.includes(":"))) requestAnimationFrame(() => flyTo(look.range));
  show(before);
});
if (look.range !== "0.0.0.0/0") requestAnimationFrame(() => flyTo(look.range));
redraw();
