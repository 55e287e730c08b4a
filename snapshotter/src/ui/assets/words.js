// Words for people, and pieces of the page. Text from the log only ever becomes text: nothing here makes markup of it.

const numbers = new Intl.NumberFormat("en");

/** A number of any size: 65,536; very many as 2^64. */
export function number(value) {
  const exact = BigInt(value);
  if (exact < 1n << 53n) return numbers.format(exact);
  return `about 2^${exact.toString(2).length - 1}`;
}

/** 1 range, 2,000 ranges. */
export function count(value, thing) {
  const plural = thing.endsWith("s") ? `${thing}es` : thing.endsWith("y") ? `${thing.slice(0, -1)}ies` : `${thing}s`;
  return `${number(value)} ${BigInt(value) === 1n ? thing : plural}`;
}

/** How much of a whole, both as text of whole numbers. */
export function share(part, whole) {
  const [few, all] = [BigInt(part), BigInt(whole)];
  if (few === 0n) return "none";
  if (few >= all) return "all";
  const percent = Number((few * 100000n) / all) / 1000;
  if (percent < 0.001) return "< 0.001%";
  return `${percent < 1 ? percent : percent.toFixed(percent < 10 ? 1 : 0)}%`;
}

const times = new Intl.DateTimeFormat("en-CA", {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});

/** A time in the zone of the reader: 2026-11-26 21:05:00. */
export function time(when) {
  return times.format(new Date(when)).replace(",", "");
}

/** A number of seconds in its two largest units. */
export function duration(seconds) {
  const units = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  let rest = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [size, unit] of units) {
    const whole = Math.floor(rest / size);
    rest -= whole * size;
    if (whole > 0) parts.push(`${whole}${unit}`);
    if (parts.length === 2) break;
  }
  return parts.join(" ") || "0s";
}

/** How long ago, or in how long. */
export function ago(when, now = Date.now()) {
  const seconds = (now - new Date(when).getTime()) / 1000;
  return seconds >= 0 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`;
}

/** A control character, or one that turns the direction of text, must not change how the rest is read. */
export function visible(text) {
  const hidden = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;
  return String(text).replace(hidden, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

/** Those of a list, and of the lists in it, that are there. */
export function some(children) {
  return children.flat().filter((child) => child !== null && child !== undefined && child !== false);
}

/** An element. Children that are not elements become text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...some(children));
  return element;
}

const shown = new WeakMap();

/**
 * Puts what `build` makes of an answer into an element, unless it shows that already. What had the focus gets it again, and what was opened
 * stays open. Times that say how long ago something was are made anew now and then.
 */
export function show(element, answer, build) {
  const text = JSON.stringify(answer);
  const before = shown.get(element);
  const hasFocus = element.contains(document.activeElement);
  if (before?.text === text && (hasFocus || Date.now() - before.at < 20_000)) return;
  shown.set(element, { text, at: Date.now() });
  const name = hasFocus ? document.activeElement.textContent : null;
  const open = new Set([...element.querySelectorAll("details[open]")].map((details) => details.className));
  element.replaceChildren(...some([build()]));
  element.querySelectorAll("details").forEach((details) => { details.open ||= open.has(details.className); });
  if (name === null) return;
  const same = [...element.querySelectorAll("a, button, summary")].find((other) => other.textContent === name);
  (same ?? element.closest("[tabindex]"))?.focus({ preventScroll: true });
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing. */
export function draw(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** Shows an answer as a table. Each cell is text, an element, or a list of these. A head that begins with # is that of numbers. */
export function fill(table, answer, heads, rows, none) {
  show(table, answer, () => content(heads, rows(), none));
}

function content(heads, rows, none) {
  const head = make("tr", {}, heads.map((text) => make("th", { scope: "col", className: text.startsWith("#") ? "number" : "" }, text.replace("#", ""))));
  const body = rows.map((cells) => make("tr", {}, cells.map((cell) => make("td", {}, cell))));
  const empty = make("tr", {}, make("td", { colSpan: heads.length, className: "quiet" }, none));
  return [make("thead", {}, head), make("tbody", {}, body.length > 0 ? body : empty)];
}

/** A text with a button that copies it. */
export function copyable(text) {
  const button = make("button", { type: "button", className: "copy", onclick: async () => {
    // Only pages of localhost, or with TLS, may use the clipboard.
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "selected";
    }
  } }, "copy");
  const code = make("code", {}, visible(text));
  return make("span", { className: "copyable" }, code, button);
}
