// How the log is doing, and which of its records nobody can read.

import { ask } from "./ask.js";
import { server } from "./state.js";
import { ago, count, fill, make, number, time, visible } from "./words.js";

const health = document.getElementById("health");
const news = document.getElementById("news");

/** Says in the head of the page how the log is doing. */
export function showHealth() {
  const { status } = server;
  const lag = status.end - status.next_offset;
  const [kind, words] = status.trouble !== null ? ["bad", "the log cannot be read"]
    : !status.is_complete ? ["busy", `reading ${number(status.next_offset)} of ${number(status.end)} commands`]
    : lag > 0 ? ["busy", `${count(lag, "command")} behind`]
    : ["good", `live, ${count(status.next_offset, "command")}`];
  sayHealth(kind, words, status.trouble ?? "");
}

/** The same, in words. Those who do not see it hear of it when it gets better or worse, not at each command. */
export function sayHealth(kind, words, why = "") {
  if (health.className !== kind) news.textContent = words;
  health.className = kind;
  health.textContent = words;
  health.title = why;
}

/** Shows the log and its rejected records. */
export async function showLog() {
  const { status } = server;
  const facts = [
    ["Commands", `${number(status.next_offset)}${status.end > status.next_offset ? ` of ${number(status.end)}` : ""}`],
    ["Latest command", status.next_offset === 0 ? "none" : `${time(status.log_time)}, ${ago(status.log_time)}`],
    ["Last contact", status.contact === null ? "none yet" : ago(status.contact)],
    ["Trouble", status.trouble ?? "none"],
    ["Writing", status.can_write ? "with a token" : status.why_not ?? "not yet"],
    ["edgefold", status.version],
  ];
  document.getElementById("log-facts").replaceChildren(...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, visible(value))]));
  const { from, rejected, rejects } = await ask("/ui/rejects");
  document.getElementById("rejects-summary").textContent = `${rejected === 0 ? "None" : count(rejected, "record")}`
    + `${from > 0 ? ` from offset ${number(from)} on; edgefold rejects lists those before` : ""}.`;
  fill(document.getElementById("rejects-table"), rejects, ["Offset", "Time", "Record", "Why"], () => rejects.map((reject) => [
    number(reject.offset), reject.time === null ? "–" : time(reject.time), make("code", {}, visible(reject.text)), visible(reject.reason),
  ]), "Every record is a valid command.");
}
