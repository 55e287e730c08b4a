// The page: which view is shown, what is asked for when something changes, and the search.

import { ask } from "./ask.js";
import { showFleet } from "./fleet.js";
import { isIpv6, showBars } from "./ipv6.js";
import { showGrowth, showLists } from "./lists.js";
import { showHealth, showLog } from "./log.js";
import { flyTo, palette, redraw, refresh } from "./map.js";
import { go, showHere } from "./networks.js";
import { isNow, look, onLook, server, set } from "./state.js";
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
  find("colour").disabled = six;
  showLegend();
  const shown = showHere();
  return six ? Promise.all([showBars(), shown]) : shown;
}

/** What the colours of the map mean. */
function showLegend() {
  const spans = (server.status?.spans ?? []).map(duration);
  const words = isIpv6() ? [] : look.since !== "" ? ["came", "went"] : {
    refused: [look.list === "" ? "refused" : "on the list"],
    list: server.status?.lists ?? [],
    action: ["refused", "exempt", "only reported", "tagged"],
    left: [...spans.map((span) => `less than ${span}`), "longer", "forever"],
    age: [...spans.map((span) => `up to ${span}`), "older"],
  }[look.colour];
  const shades = palette();
  find("legend").replaceChildren(...words.map((word, at) => {
    const colour = make("span", { className: "swatch", ariaHidden: "true" });
    colour.style.background = `rgb(${shades[at % shades.length].join(" ")})`;
    return make("li", {}, colour, word);
  }));
}

async function show(before = null) {
  if (!server.status?.is_complete) return;
  for (const view of Object.keys(VIEWS)) {
    find(`view-${view}`).hidden = view !== look.view;
    const link = document.querySelector(`#views a[href="#${view}"]`);
    if (view === look.view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  find("colour").value = look.colour;
  await attempt(VIEWS[look.view]);
  // It may take long, and comes when it comes.
  if (look.view === "lists" && before?.view !== "lists") attempt(showGrowth);
}

/** Shows what went wrong, until it goes well again. */
async function attempt(work) {
  try {
    await work();
    find("notice").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    find("notice").hidden = error.reading !== null && error.reading !== undefined;
    find("notice").textContent = error.message;
  }
}

/** Asks how the log is doing, and for all that has changed. */
async function update() {
  await attempt(async () => {
    const before = server.status;
    server.status = await ask("/ui/status");
    showHealth();
    document.querySelector('#views a[href="#fleet"]').hidden = !server.status.has_fleet;
    const lists = find("list");
    if (before?.lists.join() !== server.status.lists.join() || lists.value !== look.list) {
      const names = new Set([...server.status.lists, look.list].filter((name) => name !== ""));
      lists.replaceChildren(make("option", { value: "" }, "all"), ...[...names].map((name) => make("option", { value: name }, name)));
      lists.value = look.list;
    }
    await showTimeline();
    if (!server.status.is_complete) return;
    if (isNow()) refresh();
    const isFirst = !before?.is_complete;
    if (isNow() || isFirst || look.view !== "map") await show(isFirst ? null : look);
    document.body.dataset.offset = server.status.next_offset;
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
let events = null;

/** Hears of changes as long as the page is shown. A page that the browser keeps for its back button would hold a connection. */
function listen() {
  events?.close();
  events = new EventSource("/ui/events");
  events.onmessage = ({ data }) => {
    if (data === "log") updated();
    else if (look.view === "fleet") attempt(showFleet);
  };
  events.onopen = updated;
  events.onerror = () => {
    find("health").className = "bad";
    find("health").textContent = "edgefold does not answer";
  };
}
addEventListener("pagehide", () => events.close());
addEventListener("pageshow", listen);
// Blocks end without a command, and times are shown as how long ago they are.
setInterval(updated, 30_000);

find("canvas").addEventListener("trouble", ({ detail }) => attempt(() => { throw detail; }));
find("search").addEventListener("submit", async (event) => {
  event.preventDefault();
  await attempt(async () => {
    const area = await ask("/ui/area", { range: find("search-text").value.trim(), at: look.at });
    go(area.range);
    find("here").focus({ preventScroll: true });
  });
});
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
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showLegend);

onLook((before, isBrowsed) => {
  if (before.range !== look.range && !isIpv6() && (isBrowsed || before.range.includes(":"))) requestAnimationFrame(() => flyTo(look.range));
  show(before);
});
if (look.range !== "0.0.0.0/0") requestAnimationFrame(() => flyTo(look.range));
redraw();
