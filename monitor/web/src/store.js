// The page's copy of the node's state. Views subscribe to it; frames go to their listeners directly.
import { useEffect, useReducer } from "./preact.js";
import { get, ofMachine, post, Stream } from "./api.js";

const HIDDEN_MS = 30000,
  NOTICE_MS = 8000,
  MAX_EVENTS = 500;

export const store = {
  session: null,
  node: null,
  machines: new Map(),
  events: new Map(),
  connection: "connecting",
  listener: null,
  notice: null,
  problem: null,
  fleet: null, // the views of many nodes, if this is not one node's page
};
const listeners = new Set(),
  frameListeners = new Set();
let pending = false;

/** Redraw the views once, in the next frame. */
export function changed() {
  if (pending) return;
  pending = true;
  const run = () => {
    pending = false;
    listeners.forEach((one) => one());
  };
  document.hidden ? setTimeout(run, 250) : requestAnimationFrame(run);
}

export function useStore() {
  const [, redraw] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    listeners.add(redraw);
    return () => listeners.delete(redraw);
  }, []);
  return store;
}

export function onFrame(machine, listener) {
  const entry = [machine, listener];
  frameListeners.add(entry);
  return () => frameListeners.delete(entry);
}

function machineOf(id) {
  if (!store.machines.has(id))
    store.machines.set(id, { id, name: id, state: null, info: null, event: null, strip: [], response: null, learning: null });
  return store.machines.get(id);
}

/** Keep an event unless a later message of it is known. */
export function keep(event) {
  const known = store.events.get(event.id);
  if (known && (known.seq > event.seq || (known.seq === event.seq && known.acknowledged_at && !event.acknowledged_at)))
    return known;
  store.events.delete(event.id);
  store.events.set(event.id, event);
  if (store.events.size > MAX_EVENTS) store.events.delete(store.events.keys().next().value);
  return event;
}

function receive(kind, id, data) {
  if (kind === "node") store.node = data;
  else if (kind === "listener") store.listener = data.listener;
  else if (kind === "service") {
    store.problem = data.running ? null : data.reason;
    if (!data.resumed && data.running) poll().catch(() => {}); // events may have ended meanwhile
  } else if (kind === "frame") {
    for (const [machine, listener] of frameListeners) if (machine === id) listener(data);
    const state = store.machines.get(id)?.state;
    if (!state || data.ratio == null || state.ratio == null) return;
    store.machines.get(id).state = { ...state, ratio: data.ratio, rms_dbfs: data.rms_dbfs };
  } else {
    const machine = machineOf(id);
    if (kind === "machine" && !data) store.machines.delete(id);
    if (kind === "machine" && data) Object.assign(machine, { info: data, name: data.name || id });
    if (kind === "state") machine.state = data;
    if (kind === "response") machine.response = data;
    if (kind === "learning") machine.learning = data;
    if (kind === "event") {
      const event = keep(data);
      if (event.event_type !== "end") machine.event = event;
      else if (machine.event?.id === event.id) machine.event = null;
    }
  }
  changed();
}

async function poll() {
  const { node, machines } = await get("api/machines");
  const known = new Set(machines.map((one) => one.id));
  for (const id of store.machines.keys()) if (!known.has(id)) store.machines.delete(id);
  for (const one of machines) {
    Object.assign(machineOf(one.id), one, { name: one.name || one.id });
    if (one.event) keep(one.event);
  }
  store.node = await get("api/node").catch(() => store.node ?? { node });
  changed();
}

function status(word) {
  if (word === "closed") {
    stream.close();
    void start();
    return;
  }
  if (store.connection === word) return;
  store.connection = word;
  changed();
}

const stream = new Stream({ receive, poll, status });
let isOpen = false,
  hiding = null;

/** Ask who we are, then load everything and open the stream. */
export async function start() {
  try {
    store.session = await get("api/session");
    store.problem = null;
    if (store.session.role === null) {
      changed();
      return;
    }
    if (store.session.fleet) {
      const { receive, poll, ...views } = await import("./fleet.js");
      Object.assign(stream, { receive, poll });
      store.fleet = views;
    }
    await stream.poll();
    isOpen = true;
    if (!document.hidden) stream.open();
    else hide();
  } catch (error) {
    store.problem = error.message;
    setTimeout(start, 5000);
  }
  changed();
}

/** Choose the machine whose frames are wanted. */
export function watch(machine) {
  if (stream.machine === machine) return;
  if (isOpen && !document.hidden) stream.open(machine);
  else Object.assign(stream, { machine, last: null });
}

function hide() {
  clearTimeout(hiding);
  hiding = setTimeout(() => {
    stream.close();
    status("paused");
  }, HIDDEN_MS);
}
document.addEventListener("visibilitychange", () => {
  if (!isOpen) return;
  if (document.hidden) {
    hide();
    return;
  }
  clearTimeout(hiding);
  if (!stream.source) {
    stream.open();
    stream.poll().catch(() => {});
  }
});
// A page that was left may be kept for a minute; its stream would take one of the six connections that a browser opens.
addEventListener("pagehide", () => stream.close());
addEventListener("pageshow", (event) => {
  if (event.persisted && isOpen) stream.open();
});
setInterval(() => {
  if (isOpen && !document.hidden) stream.poll().catch(() => {});
}, 15 * 60000); // the strips of 24 h

/** Send a command; the notice shows its outcome, with a way to undo it where there is one. */
export const command = (machine, name, body, options) =>
  perform(ofMachine(machine, name), name, body, options, (response) => {
    machineOf(machine).response = response;
  });

export async function perform(path, name, body = {}, { done = null, undo = null } = {}, keepResponse = () => {}) {
  try {
    const response = await post(path, body);
    keepResponse(response);
    store.notice = response.accepted
      ? { text: done || `${name}: accepted`, undo }
      : { text: `Not done: ${response.reason}`, bad: true };
  } catch (error) {
    store.notice = { text: `Not done: ${error.message}`, bad: true };
  }
  changed();
  const { notice } = store;
  const hide = () => {
    if (store.notice === notice) store.notice = null;
    changed();
  };
  if (!notice.bad && !notice.undo) setTimeout(hide, NOTICE_MS);
  return !notice.bad;
}

export const isAdmin = () => store.session?.role === "admin";
