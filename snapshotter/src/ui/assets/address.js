// What happened to a range: the commands about it, in order, what decides now, and how to take it back.

import { ask } from "./ask.js";
import { look } from "./state.js";
import { ago, copyable, count, make, some, time, visible } from "./words.js";

/** Adds the history of a range to the panel. That of more than one address is only shown if it is asked for: it may be long. */
export async function showHistory(panel, range, isOne, signal) {
  const old = panel.querySelector(":scope > .history");
  if (!isOne && old?.dataset.range !== range) {
    const button = make("button", { type: "button", onclick: () => load(place, range, undefined) }, "Show its history");
    const place = make("section", { className: "history", ariaLabel: "History" }, button);
    if (old) old.replaceWith(place);
    else panel.append(place);
    return;
  }
  const place = old ?? make("section", { className: "history", ariaLabel: "History" });
  if (!old) panel.append(place);
  await load(place, range, signal);
}

async function load(place, range, signal) {
  if (place.dataset.range !== range) place.replaceChildren(make("p", { className: "quiet" }, "Reading the log …"));
  place.dataset.range = range;
  try {
    const explained = await ask("/ui/explain", { range, at: look.at }, signal);
    place.replaceChildren(...some([
      make("h3", {}, "Why"),
      make("p", { className: "headline" }, explained.headline),
      explained.dropped > 0 && make("p", { className: "quiet" }, `Before these there are ${count(explained.dropped, "more event")}: edgefold explain prints all.`),
      make("ol", { className: "timeline" }, explained.events.map(event)),
      explained.late.length > 0 && make("p", { className: "quiet" }, `${explained.late.length} more came later, with an earlier time.`),
      explained.undo.length > 0 && make("h3", {}, "To change that"),
      make("dl", { className: "undo" }, explained.undo.flatMap(({ what, command }) => [make("dt", {}, what), make("dd", {}, copyable(command))])),
    ]));
  } catch (error) {
    if (error.name === "AbortError") return;
    place.replaceChildren(make("p", { className: "bad" }, error.message));
  }
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
