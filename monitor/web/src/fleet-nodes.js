// The computers: connection, versions, health, and which bundles are in use.
import { html } from "./preact.js";
import { useStore } from "./store.js";
import { fleet } from "./fleet.js";
import { megabytes, span } from "./words.js";
import { Facts, Shape } from "./parts.js";

const HEADS = ["Node", "Connection", "Machines", "Version", "Clock", "Waiting", "Failures", "Temperature", "Free disk", "Running for"];

/** How many there are of each, the most frequent first. */
function tally(names) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]);
}

function Node({ name, node, n }) {
  const { health: h, versions, online } = node;
  return html`<tr role="row" class="is-${online ? "normal" : "unknown"}">
    <th role="rowheader" scope="row"><a href="./?q=${encodeURIComponent(`${name}/`)}">${name}</a></th>
    <td role="cell"><span class="badge"><${Shape} kind=${online ? "normal" : "unknown"} />${online == null ? "unknown" : online ? "online" : "offline"}</span></td>
    <td role="cell" class="value">${n || 0}</td>
    <td role="cell">${versions.stethos || "–"}</td>
    <td role="cell">${h ? (h.clock_synced ? "set" : "not set") : "–"}</td>
    <td role="cell" class="value">${h ? h.queued : "–"}</td>
    <td role="cell" class="value">${h ? h.failures : "–"}</td>
    <td role="cell" class="value">${h?.temperature_c == null ? "–" : `${Math.round(h.temperature_c)} °C`}</td>
    <td role="cell" class="value">${megabytes(h?.disk_free_mb)}</td>
    <td role="cell" class="value">${h ? span(h.uptime_s) : "–"}</td>
  </tr>`;
}

const trouble = (node) => (node.online ? 0 : 4) + (node.health?.clock_synced === false ? 2 : 0) + (node.health?.queued > 0 ? 1 : 0);

export function Nodes() {
  useStore();
  const rows = [...fleet.rows.values()],
    n = new Map(tally(rows.map((row) => row.node)));
  const nodes = [...fleet.nodes].sort((a, b) => trouble(b[1]) - trouble(a[1]) || (a[0] < b[0] ? -1 : 1));
  return html`<section class="fleet"><h1>${nodes.length} node${nodes.length !== 1 && "s"}</h1>
    <div class="columns">
      <section><h2>Versions</h2><${Facts} rows=${tally(nodes.map(([, one]) => one.versions.stethos || "unknown"))} /></section>
      <section><h2>Bundles</h2><${Facts} rows=${tally(rows.map((row) => row.bundle || "none"))} /></section>
    </div>
    <div class="scroll" tabindex="0" role="region" aria-label="Nodes"><table class="nodes">
      <thead><tr>${HEADS.map((one) => html`<th scope="col" key=${one}>${one}</th>`)}</tr></thead>
      <tbody>${nodes.map(([name, node]) => html`<${Node} key=${name} name=${name} node=${node} n=${n.get(name)} />`)}</tbody>
    </table></div></section>`;
}
