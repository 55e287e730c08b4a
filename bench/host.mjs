// Runs the module of the benchmark in V8. Reads one command per line, and answers each with one line.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [paths, directory] = [process.argv.slice(2, 4), process.argv[4]];
const modules = paths.map((path) => new WebAssembly.Module(readFileSync(path)));
const instances = [];
const NOTHING = 3;

// CPU seconds of this thread, or slightly more. Node only reports the CPU time of all threads, including V8's compiler
// threads. Neither that nor the wall clock is ever below the CPU time of this thread, so take the lower one.
function cpuSeconds(run) {
  const [cpu, wall] = [process.cpuUsage(), performance.now()];
  run();
  const waited = (performance.now() - wall) / 1e3;
  const { user, system } = process.cpuUsage(cpu);
  return Math.min((user + system) / 1e6, waited);
}

function middle(values) {
  values.sort((a, b) => a - b);
  const cut = Math.floor(values.length / 20);
  const middle = values.slice(cut, values.length - cut);
  return middle.reduce((sum, value) => sum + value, 0) / middle.length;
}

const verbs = {
  load(simd, family) {
    instances[simd] = undefined;
    globalThis.gc();
    const { exports } = new WebAssembly.Instance(modules[simd]);
    for (const buffer of [0, 1, 2]) {
      const bytes = readFileSync(join(directory, String(buffer)));
      const at = exports.reserve(buffer, bytes.length) >>> 0;
      new Uint8Array(exports.memory.buffer, at, bytes.length).set(bytes);
    }
    exports.load(family);
    instances[simd] = exports;
    return "loaded";
  },

  open(simd, contender) {
    return cpuSeconds(() => instances[simd].open(contender));
  },

  hot(simd, contender, order, count) {
    const lookup = instances[simd][order];
    let hits;
    const seconds = cpuSeconds(() => (hits = lookup(contender, 0, count, 0)));
    return `${seconds} ${hits}`;
  },

  // As in timing.rs.
  washed(simd, contender, order, addresses, burst, turn, washes) {
    const { [order]: lookup, wash } = instances[simd];
    const [nothing, looked] = [[], []];
    for (let at = turn * washes; at < (turn + 1) * washes; at++) {
      const from = (at * burst) % addresses;
      const timed = (who) => {
        const start = performance.now();
        lookup(who, from, burst, 0);
        return (performance.now() - start) / 1e3;
      };
      wash();
      timed(NOTHING);
      nothing.push(timed(NOTHING));
      looked.push(timed(contender));
    }
    return (middle(looked) - middle(nothing)) / burst;
  },

  answers(simd, contender, addresses) {
    const { independent } = instances[simd];
    return Array.from({ length: addresses }, (_, at) => independent(contender, at, 1)).join("");
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [verb, ...words] = line.trim().split(" ");
  const answer = verbs[verb](...words.map((word) => (isNaN(word) ? word : Number(word))));
  process.stdout.write(`${answer}\n`);
}
