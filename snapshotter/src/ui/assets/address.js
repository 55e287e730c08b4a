// What happened to a range: the commands about it, in order, what decides now, and how to take it back.

import { ask } from "./ask.js";
import { look } from "./state.js";
import { ago, copyable, count, make, show, time, visible } from "./words.js";

let wanted = "";

/** Shows the history of a range. That of more than one address is only shown if it is asked for: it may be long. */
export async function showHistory(place, range, isOne, signal) {
  if (isOne || wanted === range) {
    await load(place, range, signal);
    return;
  }
  show(place, ["not yet", range], () => make("button", { type: "button", onclick: () => {
    wanted = range;
    load(place, range, undefined).catch((error) => show(place, error.message, () => make("p", { className: "bad" }, error.message)));
  } }, "Show its history"));
}

async function load(place, range, signal) {
  if (place.dataset.range !== range) place.replaceChildren(make("p", { className: "quiet" }, "Reading the log …"));
  place.dataset.range = range;
  const explained = await ask("/ui/explain", { range, at: look.at }, signal);
  if (place.dataset.range !== range) return;
  show(place, [range, explained], () => [
    make("h3", {}, "Why"),
    make("p", { className: "headline" }, explained.headline),
    explained.dated !== null && make("p", {}, explained.dated),
    explained.dropped > 0 && make("p", { className: "quiet" }, `${count(explained.dropped, "more event")} not shown: edgefold explain prints all.`),
    make("ol", { className: "timeline" }, explained.events.map(event)),
    explained.late > 0 && make("p", { className: "quiet" }, `${count(explained.late, "command")} came later, with an earlier time: edgefold explain --at prints them.`),
    explained.undo.length > 0 && make("h3", {}, "To change that"),
    make("dl", { className: "undo" }, explained.undo.flatMap(({ what, command }) => [make("dt", {}, what), make("dd", {}, copyable(command))])),
  ]);
}

function event({ offset, time: at, text, words, counts, late, effects }) {
  const what = effects[0]?.effect ?? "nothing";
  return make("li", { className: `${what}${counts ? " counts" : ""}` },
    make("span", { className: "when", title: `${at}, ${ago(at)}` }, time(at)),
    make("b", {}, words, counts && make("span", { className: "unseen" }, " (this decides)")),
    text && make("code", {}, visible(text)),
    offset !== null && make("span", { className: "quiet" }, `offset ${offset}`),
    late && make("span", { className: "quiet" }, late));
}
