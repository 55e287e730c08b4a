// The slider through time, with the commands of each stretch as a histogram behind it.

import { ask } from "./ask.js";
import { complete } from "./map.js";
import { look, onLook, set } from "./state.js";
import { count, draw, duration, time } from "./words.js";

const slider = document.getElementById("slider");
const output = document.getElementById("moment");
const play = document.getElementById("play");
const since = document.getElementById("since");
const histogram = document.getElementById("histogram");
const STEPS = Number(slider.max);
/** How many steps playing from the first command to the last takes. */
const FRAMES = 120;

/** From the first command to now, in milliseconds. */
let span = { first: Date.now() - 1, last: Date.now() };
/** Counts the times that it was started or stopped: who plays stops when it is not his any more. */
let run = 0;
let isPlaying = false;
let marked = "";

/** Shows how many commands there were in each stretch. */
export async function showTimeline() {
  const { first, last, bars } = await ask("/ui/timeline");
  if (first === 0) return;
  span = { first, last };
  const most = Math.max(...bars);
  histogram.setAttribute("viewBox", `0 0 ${bars.length} 100`);
  // By the logarithm: one import must not hide all else.
  const height = (commands) => 8 + (92 * Math.log1p(commands)) / Math.log1p(most);
  histogram.replaceChildren(...bars.flatMap((commands, at) => (commands === 0 ? []
    : draw("rect", { x: at + 0.1, width: 0.8, y: 100 - height(commands), height: height(commands) }))));
  document.getElementById("first").textContent = time(first);
  document.getElementById("last").textContent = "now";
  const width = Math.ceil((last - first) / bars.length / 1000);
  document.getElementById("per-bar").textContent = `commands in each ${duration(width)}, at most ${count(most, "command")}`;
  show();
}

/** The moment of a place of the slider; "" for now. */
function momentAt(step) {
  if (step >= STEPS) return "";
  return new Date(Math.round(span.first + ((span.last - span.first) * step) / STEPS)).toISOString();
}

function show() {
  const isNow = look.at === "";
  output.textContent = isNow ? "now" : time(look.at);
  slider.setAttribute("aria-valuetext", output.textContent);
  const step = isNow ? STEPS : Math.round(((Date.parse(look.at) - span.first) / (span.last - span.first)) * STEPS);
  if (document.activeElement !== slider || isPlaying) slider.value = String(step);
  document.body.classList.toggle("past", !isNow);
  if (look.since === "" || /^\d+$/.test(look.since)) since.value = look.since;
  else since.value = "mark";
  since.querySelector("[value=mark]").textContent = marked === "" ? "the marked moment" : time(marked);
}

async function playOn() {
  isPlaying = true;
  run += 1;
  const mine = run;
  play.textContent = "Stop";
  play.setAttribute("aria-pressed", "true");
  let step = Number(slider.value) >= STEPS ? 0 : Number(slider.value);
  while (mine === run && step < STEPS) {
    step = Math.min(STEPS, step + STEPS / FRAMES);
    set({ at: momentAt(step) }, true);
    await Promise.all([complete(), new Promise((resolve) => setTimeout(resolve, 120))]);
  }
  if (mine === run) stop();
}

function stop() {
  isPlaying = false;
  run += 1;
  play.textContent = "Play";
  play.setAttribute("aria-pressed", "false");
}

let waiting = 0;
slider.addEventListener("input", () => {
  stop();
  const at = momentAt(Number(slider.value));
  output.textContent = at === "" ? "now" : time(at);
  // What lies between two moments that were passed quickly is of no interest.
  clearTimeout(waiting);
  waiting = setTimeout(() => set({ at }, true), 60);
});
play.addEventListener("click", () => (isPlaying ? stop() : playOn()));
document.getElementById("to-now").addEventListener("click", () => { stop(); set({ at: "" }); });
document.getElementById("mark").addEventListener("click", () => {
  marked = look.at === "" ? new Date().toISOString() : look.at;
  set({ since: marked });
});
since.addEventListener("change", () => {
  if (since.value === "mark" && marked === "") marked = look.at === "" ? new Date().toISOString() : look.at;
  set({ since: since.value === "mark" ? marked : since.value });
});
onLook((before, isBrowsed) => {
  if (look.view !== "map" || isBrowsed) stop();
  if (isBrowsed) slider.blur();
  if (look.since !== "" && /\D/.test(look.since)) marked = look.since;
  show();
});
