// What else is known about one machine of the fleet, and what can be done about it.
import { html, useEffect, useState } from "./preact.js";
import { get } from "./api.js";
import { isAdmin, perform } from "./store.js";
import { fleet } from "./fleet.js";
import { levelText, megabytes, number, ratioText, span, WORDS } from "./words.js";
import { colour, Facts, Shape, Time } from "./parts.js";

export const pathOf = (key) => `api/fleet/${key.split("/").map(encodeURIComponent).join("/")}`;
const order = (row, name, body, options) => perform(`${pathOf(row.key)}/${name}`, name, body, options);

const snooze = (row, duration_s) =>
  order(
    row,
    "snooze",
    { duration_s },
    duration_s
      ? { done: `${row.name}: snoozed for ${span(duration_s)}.`, undo: () => snooze(row, 0) }
      : { done: `${row.name}: the snooze has ended.` },
  );

export const Acknowledge = ({ row }) =>
  isAdmin() &&
  (row.kind === "alarm" || row.kind === "warning") &&
  !row.acknowledged &&
  html`<button class="primary" aria-label=${`Acknowledge ${row.name}`} onClick=${() =>
    order(row, "ack", row.event ? { id: row.event.id } : {}, { done: `${row.name}: acknowledged.` })}>Acknowledge</button>`;

/** The picture of a machine's last event, while there is one. */
export function Picture({ path, id, words }) {
  const [failed, setFailed] = useState(null);
  if (failed === id) return html`<p class="meta">There is no picture.</p>`;
  return html`<img class="picture" src="${path}/picture.png?${id}" width="960" height="436" alt=${words} loading="lazy"
    onError=${() => setFailed(id)} />`;
}

export function Details({ row, reason }) {
  const path = pathOf(row.key),
    [past, setPast] = useState(null),
    [problem, setProblem] = useState(null);
  useEffect(() => {
    get(`${path}/past?limit=8`).then(setPast, (error) => setProblem(error.message));
  }, [path, row.kind]);
  const node = fleet.nodes.get(row.node),
    health = node?.health;
  const last = past?.events[0];
  return html`<div class="details">
    <p class="actions"><${Acknowledge} row=${row} />
      ${isAdmin() && row.kind !== "offline" && (row.snoozed_until ? html`<button onClick=${() => snooze(row, 0)}>End the snooze</button>`
        : html`<button onClick=${() => snooze(row, 3600)}>Snooze 1 h</button>`)}</p>
    <div class="columns">
      <section><h2>${row.name}</h2><${Facts} rows=${[
        ["Reason", reason],
        ["Since", row.since && html`<${Time} at=${row.since} />`],
        ["Snoozed until", row.snoozed_until && html`<${Time} at=${row.snoozed_until} />`],
        ["Ratio", ratioText(row.ratio)],
        ["Drift", row.drift != null && `${number(row.drift)} deviations`],
        ["Level", levelText(row.level)],
        ["Bundle", row.bundle],
        ["Adapted", row.adapted],
        ["Groups", row.groups.join(", ")],
      ]} /></section>
      <section><h2>${row.node}</h2><${Facts} rows=${[
        ["Connection", node?.online == null ? "unknown" : node.online ? "online" : "offline"],
        ["Version", node?.versions.stethos],
        ["Measured", health && html`<${Time} at=${health.ts} />`],
        ["Waiting events", health?.queued],
        ["Failures", health?.failures],
        ["Clock", health && (health.clock_synced ? "set" : "not synchronised")],
        ["Temperature", health?.temperature_c != null && `${Math.round(health.temperature_c)} °C`],
        ["Free disk space", health?.disk_free_mb != null && megabytes(health.disk_free_mb)],
      ]} /></section>
      <section><h2>Past</h2>${problem && html`<p class="meta">${problem}</p>`}
        <ol class="past">${past?.states.map(
          (one) => html`<li key=${one.number} class=${colour(one.kind)}><span class="badge"><${Shape} kind=${one.kind} />${WORDS[one.kind]}</span>
            <${Time} at=${one.at} /></li>`,
        )}</ol>${past && !past.states.length && html`<p class="meta">Nothing is stored yet.</p>`}</section>
    </div>
    ${(row.event || last) && html`<${Picture} path=${path} id=${(row.event || last).id} words=${`Last event: ${(row.event || last).summary}`} />`}
  </div>`;
}
