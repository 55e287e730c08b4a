// What is looked at. It is in the address of the page, so that a look can be shared, and the browser's back button works.

const DEFAULTS = { view: "map", range: "0.0.0.0/0", at: "", since: "", colour: "refused", list: "" };

const COLOURS = ["refused", "list", "action", "left", "age"];

/** What the server said last: see /ui/status. */
export const server = { status: null };

const listeners = [];

/** What is looked at now. */
export let look = read();

function read() {
  const [view, query] = location.hash.slice(1).split("?");
  const given = Object.fromEntries(new URLSearchParams(query ?? ""));
  // Whoever made the link may have made a mistake.
  const isTime = (text) => text !== "" && !Number.isNaN(Date.parse(text));
  const isKnown = {
    range: (text) => text !== "",
    at: isTime,
    since: (text) => /^\d{1,9}$/.test(text) || isTime(text),
    colour: (text) => COLOURS.includes(text),
    list: () => true,
  };
  const known = Object.fromEntries(Object.entries(given).filter(([key, text]) => isKnown[key]?.(text)));
  return { ...DEFAULTS, ...known, view: ["map", "lists", "fleet", "log"].includes(view) ? view : "map" };
}

function write(next) {
  const { view, ...rest } = next;
  const given = Object.entries(rest).filter(([key, value]) => value !== DEFAULTS[key]);
  const query = new URLSearchParams(given).toString().replaceAll("%2F", "/").replaceAll("%3A", ":");
  return `#${view}${query === "" ? "" : `?${query}`}`;
}

/** Looks at something else. Steps of a slider replace each other in the history. */
export function set(change, replaces = false) {
  const before = look;
  look = { ...look, ...change };
  const hash = write(look);
  if (hash === write(before)) return;
  if (replaces) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  tell(before, false);
}

/** Calls `listener` with what was looked at before, whenever something else is, and whether the browser went there. */
export function onLook(listener) {
  listeners.push(listener);
}

function tell(before, isBrowsed) {
  listeners.forEach((listener) => listener(before, isBrowsed));
}

for (const event of ["popstate", "hashchange"]) {
  addEventListener(event, () => {
    const before = look;
    look = read();
    if (write(look) !== write(before)) tell(before, true);
  });
}

/** The moment and the lists, as the server is asked for them. */
export function moment() {
  return { at: look.at, list: look.list };
}

/** The moment to compare with, as a time; "" for none. */
export function since() {
  if (look.since === "" || /\D/.test(look.since)) return look.since;
  const end = look.at === "" ? Date.now() : Date.parse(look.at);
  // To the minute, so that it is the same moment for all tiles.
  const step = look.at === "" ? 60_000 : 1;
  return new Date(Math.floor((end - Number(look.since) * 1000) / step) * step).toISOString();
}

/** Whether what is looked at changes when a command comes: it is now, or no command has a later time yet. */
export function isOpen() {
  return look.at === "" || Date.parse(look.at) >= Date.parse(server.status?.log_time ?? 0);
}
