// All machines of all nodes, worst first, with filters.
import { Component, html, useState } from "./preact.js";
import { useStore } from "./store.js";
import { fleet } from "./fleet.js";
import { Acknowledge, Details } from "./fleet-details.js";
import { number, ratioText, reasonText, span, WORDS } from "./words.js";
import { colour, Shape } from "./parts.js";

const KINDS = ["alarm", "warning", "offline", "unknown", "learning", "starting", "normal", "idle", "disabled"];
const MAX_SHOWN = 500;
const NOW_S = 20; // ages below are not shown, so that rows whose values stand still are not drawn

const OURS = {
  no_broker: "The overview is not connected to the broker.",
  not_heard: "Nothing has arrived since the overview connected, so what the broker has stored may be old.",
  silent: "The node sends nothing more about it. Check the node and its network.",
  unavailable: "Its microphone or bundle cannot be used.",
};
/** Why a row is as it is, in one sentence. */
export const why = (row) => {
  if (row.kind === "alarm" || row.kind === "warning") return row.event?.summary || "different from usual";
  if (row.kind === "offline") return "The node is not connected to the broker.";
  return row.reason ? OURS[row.reason] || reasonText(row.reason) : "";
};

const isKnown = (row) => row.kind !== "offline" && row.kind !== "unknown";

/** Anomalies by severity, those not acknowledged first, then by ratio in steps of a factor of two, so that rows do not jump. */
const rank = (row) => {
  const kind = KINDS.indexOf(row.kind);
  if (kind > 1) return kind * 100;
  return kind * 100 + (row.acknowledged ? 50 : 0) - Math.round(Math.log2(Math.max(1, row.ratio || 1)));
};
const worstFirst = (a, b) => a[0] - b[0] || (a[1].key < b[1].key ? -1 : 1);

const matches = (row, { text, group, kind }) =>
  (!kind || row.kind === kind) &&
  (!group || row.groups.includes(group)) &&
  text.split(/\s+/).every((word) => `${row.key} ${row.name} ${row.bundle || ""}`.toLowerCase().includes(word.toLowerCase()));

const age = (row) => {
  if (row.heard == null) return "–";
  const seconds = (Date.now() - fleet.offset) / 1000 - row.heard;
  return seconds < NOW_S ? "now" : span(seconds < 90 ? 10 * Math.round(seconds / 10) : seconds);
};

/** One machine. It is drawn only when something in it has changed. */
class Row extends Component {
  shouldComponentUpdate(next) {
    return next.row !== this.props.row || next.isOpen !== this.props.isOpen || next.age !== this.props.age;
  }

  render({ row, isOpen, age, onOpen }) {
    return html`<tr role="row" class=${colour(row.kind)}>
      <td role="cell"><span class="badge"><${Shape} kind=${row.kind} />${WORDS[row.kind]}</span></td>
      <th role="rowheader" scope="row"><button class="plain" aria-expanded=${isOpen} onClick=${() => onOpen(row.key)}>${row.name}</button>
        <span class="meta">${row.key}</span></th>
      <td role="cell" class="what">${row.acknowledged && html`<span class="flag">acknowledged · </span>`}
        ${row.snoozed_until && html`<span class="flag">snoozed · </span>`}${row.event?.test && "TEST · "}${why(row)}</td>
      <td role="cell" class="value ratio-of">${ratioText(isKnown(row) ? row.ratio : null)}</td>
      <td role="cell" class="value"><span class="unit">drift </span>${number(isKnown(row) ? row.drift : null)}</td>
      <td role="cell" class="value"><span class="unit">heard </span>${age}</td>
      <td role="cell" class="what bundle">${row.bundle || "–"}</td>
      <td role="cell" class="do"><${Acknowledge} row=${row} /></td>
    </tr>`;
  }
}

const HEADS = ["State", "Machine", "Reason", "Ratio", "Drift", "Last heard", "Bundle", "Action"];

function Filters({ all, query, set }) {
  const groups = [...new Set(all.flatMap((row) => row.groups))].sort();
  const ofQuery = all.filter((row) => matches(row, { ...query, kind: "" }));
  return html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
    <label>Search <input type="search" value=${query.text} placeholder="node, machine, bundle"
      onInput=${(event) => set({ text: event.target.value })} /></label>
    ${
      groups.length > 0 &&
      html`<label>Group <select value=${query.group} onChange=${(event) => set({ group: event.target.value })}>
        <option value="">all</option>${groups.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>`
    }
    <span class="kinds" role="group" aria-label="States">${KINDS.filter((kind) => query.kind === kind || ofQuery.some((row) => row.kind === kind)).map(
      (kind) => html`<button type="button" key=${kind} class=${colour(kind)} aria-pressed=${query.kind === kind}
        onClick=${() => set({ kind: query.kind === kind ? "" : kind })}><span class="badge"><${Shape} kind=${kind} /></span>
        ${ofQuery.filter((row) => row.kind === kind).length} ${WORDS[kind].toLowerCase()}</button>`,
    )}</span>
  </form>`;
}

const given = () => {
  const asked = new URLSearchParams(location.search);
  return { text: asked.get("q") || "", group: asked.get("group") || "", kind: asked.get("kind") || "" };
};

export function Machines() {
  const { connection, session } = useStore();
  const [query, setQuery] = useState(given),
    [open, setOpen] = useState(null),
    [isWhole, setWhole] = useState(false);
  const set = (change) => {
    const next = { ...query, ...change };
    const words = { q: next.text, group: next.group, kind: next.kind };
    const search = new URLSearchParams(Object.entries(words).filter(([, word]) => word));
    history.replaceState(null, "", `${location.pathname}${search.size ? `?${search}` : ""}`);
    setQuery(next);
  };
  const toggle = (key) => setOpen((now) => (now === key ? null : key));
  const all = [...fleet.rows.values()];
  if (!all.length) {
    if (connection === "connecting") return null;
    return html`<section class="message"><h1>No machine yet</h1>
      <p>A node appears as soon as it is connected to the broker. If nodes are connected, the broker may not let the overview read
        their topics: give its user <code>topic read stethos/#</code>.</p></section>`;
  }
  const found = all.filter((row) => matches(row, query)).map((row) => [rank(row), row]);
  const shown = found.sort(worstFirst).slice(0, isWhole ? undefined : MAX_SHOWN);
  return html`<section class="fleet"><h1>${all.length} machine${all.length > 1 && "s"}, ${fleet.nodes.size} node${fleet.nodes.size > 1 && "s"}</h1>
    <${Filters} all=${all} query=${query} set=${set} />
    <table role="table" class="machines ${session.role}" aria-label="Machines, worst first" aria-rowcount=${found.length + 1}>
      <thead role="rowgroup"><tr role="row">${HEADS.map((one) => html`<th role="columnheader" scope="col" key=${one}>${one}</th>`)}</tr></thead>
      <tbody role="rowgroup">${shown.flatMap(([, row]) => [
        html`<${Row} key=${row.key} row=${row} isOpen=${open === row.key} age=${age(row)} onOpen=${toggle} />`,
        open === row.key &&
          html`<tr role="row" class="more" key="${row.key} more"><td role="cell" colspan=${HEADS.length}><${Details} row=${row} reason=${why(row)} /></td></tr>`,
      ])}</tbody>
    </table>
    ${!found.length && html`<p class="meta">No machine matches.</p>`}
    ${found.length > shown.length && html`<button onClick=${() => setWhole(true)}>Show all ${found.length}</button>`}
  </section>`;
}
