// IPv6: next to nothing of it is ever used, so a map of it would be empty. These are the networks that have something, as bars.

import { ask } from "./ask.js";
import { look, moment } from "./state.js";
import { go, meter } from "./networks.js";
import { count, make, show } from "./words.js";

const bars = document.getElementById("bars");
let asking = null;

/** Whether an IPv6 range is selected. */
export function isIpv6() {
  return look.range.includes(":");
}

/** Shows the networks within the selected range, the one with the most ranges first. */
export async function showBars() {
  asking?.abort();
  asking = new AbortController();
  const area = await ask("/ui/area", { range: look.range, ...moment() }, asking.signal);
  show(bars, area, () => {
    const rows = [...area.rows].sort((one, other) => other.ranges - one.ranges);
    const most = Math.max(1, ...rows.map((row) => row.ranges));
    const bar = (row) => {
      const filled = make("span", { className: "long", ariaHidden: "true" });
      filled.style.width = `${(100 * row.ranges) / most}%`;
      return make("li", {}, make("button", { type: "button", onclick: () => go(row.range) },
        filled, make("b", {}, row.range), ` ${count(row.ranges, "range")}`, meter(row.listed, row.addresses)));
    };
    return [
      make("p", { className: "quiet" }, rows.length === 0
        ? `Nothing in ${area.range} is refused.`
        : `What is refused in ${area.range}: ${count(area.refused.ranges, "range")}. Select one to look into it.`),
      make("ul", {}, rows.map(bar)),
    ];
  });
}
