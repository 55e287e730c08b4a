// The map of IPv4: tiles of the Hilbert curve on a canvas.

import { ask, bytes } from "./ask.js";
import { SIDE, address, cidr, networkAt, place, square, text } from "./curve.js";
import { isOpen, look, moment, onLook, server, set, since } from "./state.js";
import { count, share } from "./words.js";

const TILE = 256;
/** The most tiles that are kept: each takes 256 KB. */
const MOST_TILES = 400;
/** The largest an address is drawn, and how wide a square is that the arrow keys step over, in pixels. */
const LARGEST = 48;
const STEP = 32;
/** How long to wait before a tile that failed is asked for again, in milliseconds. */
const PAUSE = 5_000;
/** For how long what a command was about is marked, in milliseconds. */
const RECENT = 120_000;

const canvas = document.getElementById("canvas");
const hover = document.getElementById("hover");
const underCursor = document.getElementById("under-cursor");
const context = canvas.getContext("2d");

/** The place in the middle of the canvas, and how many pixels an address is wide. */
let view = { x: SIDE / 2, y: SIDE / 2, scale: 0 };
/** The square that the arrow keys move. */
let cursor = null;
/** Where the pointer is. */
let pointer = null;
let colours = null;
let redrawn = 0;
/** What was painted, by what was asked. A tile of a moment that has passed on is shown until the new one is there. */
const tiles = new Map();
/** Counts the changes of the log: a tile of the present is asked for again after each. */
let generation = 0;

/** How far in the tiles are: each zoom has cells of half the width. */
function zoom() {
  // A cell is at least a pixel wide: of narrower ones some would not be seen.
  const cells = Math.floor(Math.log2(view.scale * TILE * (devicePixelRatio || 1)));
  return Math.max(0, Math.min(server.status?.most_zoom ?? 8, cells));
}

/** How wide a cell is, in addresses. */
function cell() {
  return 2 ** (8 - zoom());
}

function size() {
  const { clientWidth: width, clientHeight: height } = canvas;
  return { width, height, least: Math.min(width, height) / SIDE };
}

function toMap(px, py) {
  const { width, height } = size();
  return { x: view.x + (px - width / 2) / view.scale, y: view.y + (py - height / 2) / view.scale };
}

function toCanvas(x, y) {
  const { width, height } = size();
  return { px: (x - view.x) * view.scale + width / 2, py: (y - view.y) * view.scale + height / 2 };
}

function isInside({ x, y }) {
  return x >= 0 && y >= 0 && x < SIDE && y < SIDE;
}

/** Keeps the map in sight: all of it in the middle, and some of it otherwise. */
function moveTo(x, y, scale = view.scale) {
  const { least } = size();
  const next = Math.max(least, Math.min(LARGEST, scale));
  const keep = (at) => (next <= least ? SIDE / 2 : Math.max(0, Math.min(SIDE, at)));
  view = { x: keep(x), y: keep(y), scale: next };
  redraw();
}

function zoomAt(px, py, factor) {
  const at = toMap(px, py);
  const { width, height, least } = size();
  const scale = Math.max(least, Math.min(LARGEST, view.scale * factor));
  moveTo(at.x - (px - width / 2) / scale, at.y - (py - height / 2) / scale, scale);
}

/** Shows a range: all of its square, with some room around it. */
export function flyTo(range) {
  const at = square(range);
  if (at === null) return;
  const { width, height } = size();
  const fill = at.length === 0 ? 1 : 0.7;
  const scale = Math.min(16, (Math.min(width, height) * fill) / at.side);
  moveTo(at.x + at.side / 2, at.y + at.side / 2, scale);
}

/** The address at the top left of each square of a prefix length that can be seen. */
function* squares(length) {
  const side = 2 ** ((32 - length) / 2);
  const { width, height } = size();
  const [from, to] = [toMap(0, 0), toMap(width, height)];
  const first = (at) => Math.max(0, Math.floor(at / side) * side);
  for (let y = first(from.y); y < Math.min(SIDE, to.y); y += side) {
    for (let x = first(from.x); x < Math.min(SIDE, to.x); x += side) yield { x, y, side };
  }
}

function key(z, x, y) {
  return [z, x, y, look.colour, look.list, look.at, look.since].join(" ");
}

/** The tile's canvas; asks for it if it is not there, or not new. */
function tile(z, x, y) {
  const name = key(z, x, y);
  let known = tiles.get(name);
  if (!known) {
    known = { image: null, generation: -1, asking: null, failed: -Infinity, kind: kind() };
    tiles.set(name, known);
    // Those that were used the longest time ago are first.
    for (const [old, { asking }] of tiles) {
      if (tiles.size <= MOST_TILES) break;
      asking?.abort();
      tiles.delete(old);
    }
  } else {
    tiles.delete(name);
    tiles.set(name, known);
  }
  const isOld = known.generation < 0 || (isOpen() && known.generation !== generation);
  const mayAsk = known.asking === null && performance.now() - known.failed > PAUSE;
  if (isOld && mayAsk) request(known, z, x, y);
  return known;
}

async function request(known, z, x, y) {
  known.asking = new AbortController();
  const wanted = generation;
  try {
    known.cells = await bytes("/ui/tile", { zoom: z, x, y, colour: look.colour, ...moment(), since: since() }, known.asking.signal);
    known.image = paint(known);
    known.generation = wanted;
    tell("tile", null);
  } catch (error) {
    if (error.name !== "AbortError") {
      known.failed = performance.now();
      setTimeout(redraw, PAUSE + 1);
      tell("tile", error);
    }
  } finally {
    known.asking = null;
    redraw();
    canvas.dispatchEvent(new CustomEvent("painted"));
  }
}

function tell(what, error) {
  canvas.dispatchEvent(new CustomEvent("asked", { detail: { what, error } }));
}

/** What the colours stand for. */
function kind() {
  return look.since !== "" ? "change" : look.colour;
}

function paint({ cells, kind }) {
  const image = new OffscreenCanvas(TILE, TILE);
  const inside = image.getContext("2d");
  const pixels = inside.createImageData(TILE, TILE);
  const shades = palette(kind);
  for (let at = 0; at < TILE * TILE; at++) {
    const part = cells[2 * at];
    if (part === 0) continue;
    const [r, g, b] = shades[cells[2 * at + 1] % shades.length];
    pixels.data.set([r, g, b, 140 + Math.round((115 * part) / 255)], 4 * at);
  }
  inside.putImageData(pixels, 0, 0);
  return image;
}

/** The colours of what is shown, from the style sheet. */
export function palette(kind) {
  colours ??= new Map();
  if (!colours.has(kind)) {
    const style = getComputedStyle(document.documentElement);
    const found = [];
    for (let at = 0; style.getPropertyValue(`--${kind}-${at}`) !== ""; at++) {
      found.push(rgb(style.getPropertyValue(`--${kind}-${at}`).trim()));
    }
    colours.set(kind, found);
  }
  return colours.get(kind);
}

function rgb(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

export function redraw() {
  canvas.dataset.isComplete = "false";
  if (redrawn === 0) redrawn = requestAnimationFrame(drawAll);
}

function drawAll() {
  redrawn = 0;
  const ratio = devicePixelRatio || 1;
  const { width, height } = size();
  if (width === 0 || view.scale === 0) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = false;
  const style = getComputedStyle(document.documentElement);
  const whole = toCanvas(0, 0);
  context.fillStyle = style.getPropertyValue("--empty");
  context.fillRect(whole.px, whole.py, SIDE * view.scale, SIDE * view.scale);
  drawTiles();
  drawGrid(style);
  markRecent(style);
  outline(square(look.range), style.getPropertyValue("--ink"), 1.5);
  if (cursor !== null && document.activeElement === canvas) outline(cursor, style.getPropertyValue("--accent"), 2.5);
  canvas.dataset.isComplete = String(server.status?.is_complete === true && [...squares(2 * zoom())].every(({ x, y, side }) => {
    const known = tiles.get(key(zoom(), x / side, y / side));
    return known !== undefined && known.asking === null && (known.image !== null || known.failed > 0);
  }));
}

function drawTiles() {
  if (!server.status?.is_complete) return;
  const z = zoom();
  for (const { x, y, side } of squares(2 * z)) {
    const { px, py } = toCanvas(x, y);
    const known = tile(z, x / side, y / side);
    if (known.image !== null) {
      context.drawImage(known.image, px, py, side * view.scale, side * view.scale);
      continue;
    }
    // Meanwhile, the part of a coarser one.
    for (let coarse = z - 1; coarse >= 0; coarse--) {
      const wide = 2 ** (16 - coarse);
      const other = tiles.get(key(coarse, Math.floor(x / wide), Math.floor(y / wide)));
      if (!other?.image) continue;
      const part = TILE / 2 ** (z - coarse);
      const from = { x: ((x % wide) / wide) * TILE, y: ((y % wide) / wide) * TILE };
      context.drawImage(other.image, from.x, from.y, part, part, px, py, side * view.scale, side * view.scale);
      break;
    }
  }
}

/** Lines between networks, and their names, where there is room. */
function drawGrid(style) {
  context.font = `11px ${style.getPropertyValue("--font")}`;
  context.textBaseline = "top";
  context.lineJoin = "round";
  context.fillStyle = style.getPropertyValue("--quiet");
  for (const length of [8, 16, 24]) {
    const pixels = 2 ** ((32 - length) / 2) * view.scale;
    if (pixels < 14) break;
    const isNamed = pixels >= 26 && pixels < 900;
    const all = [...squares(length)];
    context.strokeStyle = style.getPropertyValue("--line");
    context.lineWidth = 1;
    context.globalAlpha = Math.min(1, pixels / 60);
    for (const { x, y } of all) {
      const { px, py } = toCanvas(x, y);
      context.strokeRect(Math.round(px) + 0.5, Math.round(py) + 0.5, Math.round(pixels), Math.round(pixels));
    }
    context.globalAlpha = 1;
    context.strokeStyle = style.getPropertyValue("--empty");
    context.lineWidth = 3;
    for (const { x, y } of all) {
      const { px, py } = toCanvas(x, y);
      const { first } = networkAt(x, y, length);
      const name = length === 8 ? `${first >>> 24}` : text(first);
      if (!isNamed || context.measureText(name).width > pixels - 6) continue;
      // Legible on any colour.
      context.strokeText(name, px + 4, py + 4);
      context.fillText(name, px + 4, py + 4);
    }
  }
}

/** Rings around what the last commands were about: a single address is less than a pixel on the whole map. */
function markRecent(style) {
  if (look.at !== "") return;
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 1.5;
  for (const { range, time } of server.status?.recent ?? []) {
    const at = range === null ? null : square(range);
    if (at === null || Date.now() - Date.parse(time) > RECENT) continue;
    const { px, py } = toCanvas(at.x + at.side / 2, at.y + at.side / 2);
    const radius = Math.max(7, (at.side * view.scale) / Math.SQRT2 + 3);
    context.beginPath();
    context.arc(px, py, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

function outline(at, colour, width) {
  if (at === null || at.length === 0) return;
  const { px, py } = toCanvas(at.x, at.y);
  const side = Math.max(6, at.side * view.scale);
  const shift = (side - at.side * view.scale) / 2;
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.strokeRect(px - shift, py - shift, side, side);
}

/** What the pointer is over: a cell, or a square of some pixels if cells are smaller. */
function networkOf({ x, y }) {
  const side = Math.max(cell(), 2 ** Math.floor(Math.log2(3 / view.scale)));
  const length = 32 - 2 * Math.max(0, Math.log2(Math.max(1, side)));
  return networkAt(Math.floor(x), Math.floor(y), Math.max(0, length));
}

let asking = null;
let waiting = 0;

/** Names what is under the pointer. */
function showHover(px, py) {
  const at = toMap(px, py);
  clearTimeout(waiting);
  asking?.abort();
  if (!isInside(at)) {
    hover.hidden = true;
    return;
  }
  const { cidr: range } = networkOf(at);
  hover.hidden = false;
  if (hover.dataset.range !== range) hover.replaceChildren(bold(range));
  hover.dataset.range = range;
  const { width, height } = size();
  hover.style.left = `${Math.min(px + 14, width - hover.offsetWidth - 4)}px`;
  hover.style.top = `${py + 18 + hover.offsetHeight > height ? py - hover.offsetHeight - 8 : py + 18}px`;
  waiting = setTimeout(() => describe(range).then((lines) => {
    if (hover.dataset.range !== range || lines === null) return;
    hover.replaceChildren(bold(range), ...lines.map((line) => Object.assign(document.createElement("p"), { textContent: line })));
  }), 60);
}

function bold(range) {
  return Object.assign(document.createElement("b"), { textContent: range });
}

/** What is on the lists in a range, in a few lines; null if something else was asked in the meantime. */
async function describe(range) {
  asking = new AbortController();
  try {
    const area = await ask("/ui/area", { range, ...moment() }, asking.signal);
    const lines = [`refused: ${share(area.refused.addresses, area.addresses)} of ${count(area.addresses, "address")}`];
    for (const list of area.lists.slice(0, 4)) {
      const [block] = list.blocks;
      const what = list.ranges === 1 && block ? block.range : count(list.ranges, "range");
      lines.push(`${list.name} (${list.action}): ${what}`);
    }
    return lines;
  } catch {
    return null;
  }
}

/** Says what the cursor is on, for those who do not see it. */
async function tellCursor() {
  const { cidr: range } = networkAt(cursor.x, cursor.y, cursor.length);
  clearTimeout(waiting);
  asking?.abort();
  canvas.dataset.cursor = range;
  underCursor.textContent = range;
  waiting = setTimeout(() => describe(range).then((lines) => {
    if (lines !== null && canvas.dataset.cursor === range) underCursor.textContent = `${range}; ${lines.join("; ")}`;
  }), 200);
}

/** The prefix length of squares that are about as wide as a finger. */
function cursorLength() {
  return Math.max(2, Math.min(32, 32 - 2 * Math.round(Math.log2(Math.max(1, STEP / view.scale)))));
}

function moveCursor(dx, dy) {
  const length = cursorLength();
  const side = 2 ** ((32 - length) / 2);
  const from = cursor ?? { x: view.x - side * dx, y: view.y - side * dy };
  const step = (at, by) => Math.max(0, Math.min(SIDE - side, Math.floor(at / side) * side + by * side));
  cursor = { x: step(from.x, dx), y: step(from.y, dy), side, length };
  const { px, py } = toCanvas(cursor.x + side / 2, cursor.y + side / 2);
  const { width, height } = size();
  if (px < 0 || py < 0 || px > width || py > height) moveTo(cursor.x, cursor.y);
  tellCursor();
  redraw();
}

function zoomCursor(factor) {
  const at = cursor === null ? view : { x: cursor.x + cursor.side / 2, y: cursor.y + cursor.side / 2 };
  moveTo(at.x, at.y, view.scale * factor);
  if (cursor !== null) moveCursor(0, 0);
}

const KEYS = {
  ArrowLeft: () => moveCursor(-1, 0),
  ArrowRight: () => moveCursor(1, 0),
  ArrowUp: () => moveCursor(0, -1),
  ArrowDown: () => moveCursor(0, 1),
  "+": () => zoomCursor(2),
  "=": () => zoomCursor(2),
  "-": () => zoomCursor(1 / 2),
  Home: () => moveTo(SIDE / 2, SIDE / 2, 0),
  Enter: () => cursor !== null && set({ range: networkAt(cursor.x, cursor.y, cursor.length).cidr }),
  Escape: () => { cursor = null; redraw(); },
};

canvas.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
});
for (const event of ["focus", "blur"]) canvas.addEventListener(event, redraw);

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomAt(event.offsetX, event.offsetY, 2 ** (-Math.sign(event.deltaY) * Math.min(1, Math.abs(event.deltaY) / 100)));
}, { passive: false });

/** Fingers and the mouse. Two fingers zoom. */
const held = new Map();
let moved = false;

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  held.set(event.pointerId, { px: event.offsetX, py: event.offsetY });
  moved = held.size > 1;
});
canvas.addEventListener("pointermove", (event) => {
  pointer = { px: event.offsetX, py: event.offsetY };
  const before = held.get(event.pointerId);
  if (before === undefined) {
    showHover(pointer.px, pointer.py);
    return;
  }
  const [dx, dy] = [event.offsetX - before.px, event.offsetY - before.py];
  if (!moved && Math.hypot(dx, dy) < 4) return;
  moved = true;
  hover.hidden = true;
  const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
  if (other !== undefined) {
    const distance = (at) => Math.hypot(at.px - other.px, at.py - other.py);
    zoomAt(other.px, other.py, distance(pointer) / Math.max(1, distance(before)));
  } else {
    moveTo(view.x - dx / view.scale, view.y - dy / view.scale);
  }
  held.set(event.pointerId, pointer);
});
canvas.addEventListener("pointerup", (event) => {
  if (!held.delete(event.pointerId)) return;
  const at = toMap(event.offsetX, event.offsetY);
  if (!moved && isInside(at)) {
    cursor = null;
    set({ range: networkOf(at).cidr });
  }
});
canvas.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
canvas.addEventListener("pointerleave", () => { pointer = null; hover.hidden = true; });
canvas.addEventListener("dblclick", (event) => zoomAt(event.offsetX, event.offsetY, 4));

const middle = () => { const { width, height } = size(); return [width / 2, height / 2]; };
document.getElementById("zoom-in").addEventListener("click", () => zoomAt(...middle(), 2));
document.getElementById("zoom-out").addEventListener("click", () => zoomAt(...middle(), 1 / 2));
document.getElementById("zoom-all").addEventListener("click", () => moveTo(SIDE / 2, SIDE / 2, 0));

let before = 0;
new ResizeObserver(() => {
  const { least } = size();
  // What showed all goes on showing all.
  moveTo(view.x, view.y, view.scale <= before * 1.01 ? 0 : view.scale);
  before = least;
}).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

/** Other colours for what is known. */
function repaint() {
  colours = null;
  for (const known of tiles.values()) {
    if (known.cells) known.image = paint(known);
  }
  redraw();
}

/** The log has changed: the tiles of the present are asked for again. */
export function refresh() {
  generation += 1;
  redraw();
}

/** Resolves when all tiles that can be seen are there. */
export async function complete() {
  while (canvas.dataset.isComplete !== "true" && canvas.clientWidth > 0) {
    await new Promise((resolve) => {
      canvas.addEventListener("painted", () => requestAnimationFrame(resolve), { once: true });
      setTimeout(resolve, 500);
    });
  }
}

onLook(() => {
  // What is not looked at any more must not hold up what is.
  const now = key(0, 0, 0).slice("0 0 0".length);
  for (const [name, { asking }] of tiles) {
    if (!name.endsWith(now)) asking?.abort();
  }
  redraw();
});

/** The log is another one. */
export function forget() {
  tiles.forEach(({ asking }) => asking?.abort());
  tiles.clear();
  redraw();
}

/** For tests and for the curious: where an address is on the canvas, in pixels. */
canvas.whereIs = (ip) => {
  const at = place(ip.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0));
  const { px, py } = toCanvas(at.x + 0.5, at.y + 0.5);
  return { x: px, y: py, zoom: zoom(), width: cell() * view.scale, range: cidr(address(at.x, at.y), 32) };
};
