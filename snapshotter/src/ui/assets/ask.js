// Asks the server.

/** Why a question was not answered. While the log is being read, `reading` says how far. */
export class Trouble extends Error {
  constructor(message, status, answer = {}) {
    super(message);
    this.status = status;
    this.answer = answer;
    this.reading = status === 503 && answer.end !== undefined ? answer : null;
  }
}

async function asked(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("edgefold does not answer: is it still running?", 0);
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new Trouble(answer.error ?? `the server answered ${response.status}`, response.status, answer);
}

function url(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const query = new URLSearchParams(given).toString();
  return query === "" ? path : `${path}?${query}`;
}

/** The answer as JSON. */
export async function ask(path, parameters = {}, signal = undefined) {
  return (await asked(url(path, parameters), { signal })).json();
}

/** The answer as bytes. */
export async function bytes(path, parameters, signal) {
  return new Uint8Array(await (await asked(url(path, parameters), { signal })).arrayBuffer());
}

/** Sends commands, one on each line. */
export async function send(path, token, commands, parameters = {}) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "text/plain" };
  return (await asked(url(path, parameters), { method: "POST", headers, body: commands })).json();
}
