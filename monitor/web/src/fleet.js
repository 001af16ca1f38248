// Many nodes on one page: their rows, as the server streams them, and the views of them.
import { html } from "./preact.js";
import { get } from "./api.js";
import { changed, store } from "./store.js";
import { Machines } from "./fleet-machines.js";
import { Events } from "./fleet-events.js";
import { Nodes } from "./fleet-nodes.js";

const MAX_EVENTS = 300;

await new Promise((done) => {
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href: "static/fleet.css", onload: done, onerror: done });
  document.head.append(link);
});

export const fleet = {
  rows: new Map(), // machines by NODE/MACHINE; a row that changes is a new object
  nodes: new Map(),
  events: new Map(), // by id, in the order of arrival
  head: {},
  offset: 0, // this browser's clock minus the server's, ms
};

/** Take in what has changed, or everything. */
export function receive(kind, _, body) {
  if (kind !== "fleet") return;
  const { rows, nodes, events } = fleet;
  if (body.whole) [rows, nodes, events].forEach((one) => one.clear());
  for (const [key, row] of Object.entries(body.rows || {})) rows.set(key, { ...rows.get(key), ...row, key });
  for (const key of body.gone || []) rows.delete(key);
  for (const [name, node] of Object.entries(body.nodes || {})) node ? nodes.set(name, node) : nodes.delete(name);
  for (const event of body.events || []) {
    events.delete(event.id);
    events.set(event.id, event);
    if (events.size > MAX_EVENTS) events.delete(events.keys().next().value);
  }
  fleet.offset = Date.now() - body.now * 1000;
  fleet.head = { history: body.history, lost: body.lost, full: body.full };
  store.problem = body.connected ? null : body.problem;
  changed();
}

export const poll = async () => receive("fleet", null, await get("api/fleet"));

export const LINKS = [
  ["./", "Machines", "overview"],
  ["events", "Events", "events"],
  ["nodes", "Nodes", "nodes"],
];
export const VIEWS = { overview: Machines, events: Events, nodes: Nodes };

/** The state of the overview itself. */
export const Lamps = ({ lamp }) => {
  const { history, lost, full } = fleet.head;
  return html`${lamp(!store.problem, "broker", "broker away")}
    ${history && lamp(!history.error, "history", `history: ${history.error}`)}
    ${history?.lost > 0 && lamp(false, "", `${history.lost} rows of history lost`)}
    ${lost > 0 && lamp(false, "", `${lost} messages lost`)} ${full > 0 && lamp(false, "", "too many machines, some are not shown")}`;
};
