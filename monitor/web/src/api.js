// Requests to the node, and its stream of events. All addresses are relative to the page's base.

export class Problem extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function send(path, options) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Problem(0, "The node cannot be reached.");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Problem(answer.status, body.detail || body.title || `The node answered ${answer.status}.`);
}

export const get = async (path) => (await send(path)).json();
export const ofMachine = (id, rest) => `api/machines/${encodeURIComponent(id)}/${rest}`;
export const open = (path, options) => send(path, options);
export const post = async (path, body = {}) => {
  const headers = { "Content-Type": "application/json", "X-Stethos": "1" };
  const answer = await send(path, { method: "POST", headers, body: JSON.stringify(body) });
  return answer.status === 204 ? {} : answer.json();
};

const KINDS = ["node", "machine", "state", "frame", "event", "response", "learning", "service", "listener", "fleet"];
const QUIET_MS = 5000,
  RETRY_MS = 60000,
  POLL_MS = 5000;

/**
 * The stream of one machine's frames and everybody's states and events, resumed after every break.
 * When nothing arrives within 5 s, `poll` is called every 5 s until the stream works again.
 */
export class Stream {
  constructor({ receive, poll, status }) {
    Object.assign(this, { receive, poll, status, last: null, machine: null, source: null, failures: 0 });
  }

  /** A stream of another machine starts anew: ids count what the previous one left out. */
  open(machine = this.machine) {
    if (machine !== this.machine) this.last = null;
    this.machine = machine;
    this.close();
    const query = new URLSearchParams();
    if (machine) query.set("machine", machine);
    if (this.last !== null) query.set("last", this.last);
    const source = (this.source = new EventSource(`api/stream?${query}`));
    for (const kind of KINDS) source.addEventListener(kind, (message) => this.#take(kind, message));
    source.onerror = () => this.#broken(source);
    this.#watch();
  }

  close() {
    this.source?.close();
    this.source = null;
    for (const timer of [this.quiet, this.polling, this.retry]) clearTimeout(timer);
    this.polling = null;
  }

  #take(kind, message) {
    if (message.lastEventId) this.last = message.lastEventId;
    this.failures = 0;
    clearTimeout(this.polling);
    this.polling = null;
    this.status("live");
    this.#watch();
    const body = JSON.parse(message.data);
    this.receive(kind, body.machine, "data" in body ? body.data : body);
  }

  #watch() {
    clearTimeout(this.quiet);
    this.quiet = setTimeout(() => this.#poll(), QUIET_MS);
  }

  #broken(source) {
    if (source !== this.source) return;
    if (source.readyState !== EventSource.CLOSED) return; // the browser reconnects with Last-Event-ID
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.open(), Math.min(1000 * 2 ** this.failures++, RETRY_MS));
    if (!this.polling) this.#poll();
  }

  async #poll() {
    clearTimeout(this.quiet);
    const source = this.source;
    const again = (this.polling = setTimeout(() => this.#poll(), POLL_MS));
    const word = await this.poll().then(
      () => "polling",
      (error) => (error.status === 401 ? "closed" : "lost"),
    );
    if (source === this.source && again === this.polling) this.status(word);
  }
}
