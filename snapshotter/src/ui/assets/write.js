// Commands from the page: what they would change is shown before they are appended.

import { send } from "./ask.js";
import { look, server } from "./state.js";
import { count, make, show, visible } from "./words.js";

/** The token is only kept as long as the page is open. */
let token = "";

/** A value of a command in quotes. */
function quoted(text) {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** Shows forms to block and to allow a range, or a word about it if the page cannot. What somebody has typed there stays. */
export function writeForms(place, range) {
  const isInUse = place.dataset.range === range && place.querySelector("details[open]") !== null;
  place.dataset.range = range;
  const { can_write, lists, why_not } = server.status;
  if (!isInUse) show(place, [range, can_write, lists, why_not, look.list], () => forms(range));
}

function forms(range) {
  const { status } = server;
  if (!status.can_write) return make("p", { className: "quiet" }, status.why_not ?? "");
  const names = [...new Set([...status.lists, ...(look.list === "" ? [] : [look.list])])];
  const list = make("select", { name: "list" }, names.map((name) => make("option", { value: name, selected: name === (look.list || "default") }, name)));
  const ttl = make("input", { name: "ttl", placeholder: "forever, or 4h", size: 10, autocomplete: "off" });
  const reason = make("input", { name: "reason", placeholder: "why", autocomplete: "off" });
  const command = (verb) => {
    const words = [verb, range, `list=${list.value}`];
    if (ttl.value.trim() !== "" && verb === "BLACKLIST") words.push(`ttl=${ttl.value.trim()}`);
    if (reason.value.trim() !== "") words.push(`reason=${quoted(reason.value.trim())}`);
    return words.join(" ");
  };
  const result = make("div", { className: "result", role: "status" });
  const allow = make("button", { type: "button", onclick: () => dryRun(command("WHITELIST"), result) }, "Allow …");
  return make("details", {}, make("summary", {}, `Block or allow ${visible(range)}`),
    // Enter in a field does what the first button does.
    make("form", { onsubmit: (event) => { event.preventDefault(); dryRun(command("BLACKLIST"), result); } },
      tokenField(), make("label", {}, "List ", list), make("label", {}, "For ", ttl), make("label", {}, "Reason ", reason),
      make("p", {}, make("button", { className: "strong" }, "Block …"), " ", allow)),
    result);
}

/** A form that says what a list does. */
export function listForm() {
  const name = make("input", { name: "name", required: true, placeholder: "name", autocomplete: "off", pattern: "[a-z0-9][a-z0-9._\\-]{0,62}" });
  const action = make("select", { name: "action" }, ["deny", "shadow", "exempt", "tag"].map((word) => make("option", {}, word)));
  const share = make("input", { name: "share", placeholder: "100%", size: 6, autocomplete: "off" });
  const reason = make("input", { name: "reason", placeholder: "why", autocomplete: "off" });
  const result = make("div", { className: "result", role: "status" });
  const submit = (event) => {
    event.preventDefault();
    const words = ["LIST", name.value.trim(), `action=${action.value}`];
    if (action.value === "deny" && share.value.trim() !== "") words.push(`share=${share.value.trim()}`);
    if (reason.value.trim() !== "") words.push(`reason=${quoted(reason.value.trim())}`);
    dryRun(words.join(" "), result);
  };
  return make("details", {}, make("summary", {}, "Set what a list does"),
    make("form", { onsubmit: submit }, tokenField(), make("label", {}, "List ", name), make("label", {}, "Action ", action),
      make("label", {}, "Share of clients ", share), make("label", {}, "Reason ", reason), make("p", {}, make("button", { className: "strong" }, "Set …"))),
    result);
}

function tokenField() {
  return make("label", {}, "Token ", make("input", {
    type: "password", name: "token", value: token, autocomplete: "off", required: true, oninput: (event) => { token = event.target.value; },
  }));
}

async function dryRun(command, result) {
  result.replaceChildren(make("p", { className: "quiet" }, "Looking at what it would change …"));
  try {
    const planned = await send("/ui/dry-run", token, command);
    const doubts = planned.objection === null ? null : make("label", { className: "bad" },
      make("input", { type: "checkbox", onchange: (event) => { append.disabled = !event.target.checked; } }),
      ` ${planned.objection}. Append it all the same.`);
    const append = make("button", { type: "button", className: "strong", disabled: doubts !== null, onclick: () => commit(command, doubts !== null, result) }, "Append");
    result.replaceChildren(
      ...planned.commands.map((text) => make("p", {}, make("code", {}, visible(text)))),
      ...(planned.lists.length === 0 ? [make("p", {}, "Nothing would change.")] : planned.lists.map(change)),
      ...(doubts === null ? [] : [doubts]),
      make("p", {}, append, " ", make("button", { type: "button", onclick: () => result.replaceChildren() }, "Cancel")));
  } catch (error) {
    result.replaceChildren(make("p", { className: "bad" }, error.message));
  }
}

function change({ list, does_before: before, does, words, added, removed }) {
  const named = (sign, ranges) => ranges.slice(0, 6).map((range) => make("li", {}, `${sign} ${range}`));
  return make("div", {}, make("p", {}, make("b", {}, `List ${list}`), `: ${words}`,
    before !== does && `; ${visible(before ?? "new")} → ${visible(does ?? "gone")}`), make("ul", { className: "plain" }, named("+", added), named("−", removed)));
}

async function commit(command, force, result) {
  // Not twice.
  result.replaceChildren(make("p", { className: "quiet" }, "Appending …"));
  try {
    const done = await send("/ui/commands", token, command, force ? { force: "true" } : {});
    const fleet = done.enforced === undefined ? "" : done.enforced ? `, and enforced by ${count(done.proxies, "proxy")}`
      : ", and not every proxy enforces it yet";
    result.replaceChildren(make("p", { className: "good" }, `Appended at offset ${done.offsets.join(", ")}${fleet}.`));
  } catch (error) {
    // Something has changed since it was looked at.
    const why = error.answer?.objection;
    result.replaceChildren(make("p", { className: "bad" }, why ? `Not appended: ${why}.` : error.message));
  }
}
