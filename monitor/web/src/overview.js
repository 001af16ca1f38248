// All machines, worst first.
import { html } from "./preact.js";
import { useStore } from "./store.js";
import { eventPath, explain, isUnlearned, kindOf, machinePath, ratioText, WORDS, worstFirst } from "./words.js";
import { Acknowledge, canAcknowledge, colour, Flags, StateBadge, Strip, TestFlag, Time } from "./parts.js";
import { Listen } from "./listen.js";

function Sentence({ machines }) {
  const kinds = machines.map((one) => kindOf(one.state));
  const count = (kind) => kinds.filter((one) => one === kind).length;
  if (kinds.every((kind) => kind === "normal")) {
    const since = machines.map((one) => one.state.since).reduce((a, b) => (a > b ? a : b));
    const who = machines.length === 1 ? machines[0].name : machines.length === 2 ? "Both machines" : `All ${machines.length} machines`;
    return html`<h1>${who} normal since <${Time} at=${since} /></h1>`;
  }
  const worst = ["alarm", "warning", "unknown", "learning", "starting", "normal", "idle", "disabled"].filter(count);
  return html`<h1>${worst.map(
    (kind, i) => html`${i ? ", " : ""}<span class="flag">${count(kind)} ${WORDS[kind].toLowerCase()}</span>`,
  )}</h1>`;
}

function Card({ machine }) {
  const { state, info, strip } = machine,
    kind = kindOf(state);
  return html`<li class="card ${colour(kind)}">
    <div class="card-head">
      <h2><a href=${machinePath(machine.id)}>${machine.name}</a></h2>
      <span class="ratio" title="score / threshold; 1 is the threshold">${ratioText(state?.ratio)}</span>
    </div>
    <p class="meta states"><${StateBadge} state=${state} /> ${state && html`<span>since <${Time} at=${state.since} />
      </span>`} <${Flags} state=${state} /> <${TestFlag} event=${machine.event} /></p>
    <${Strip} points=${strip || []} alarm_ratio=${info?.alarm_ratio} />
    <p class="why">${explain(machine)}${isUnlearned(machine) &&
      html` <a href="${machinePath(machine.id)}/learn">First steps</a>`}</p>
    <p class="actions">${canAcknowledge(machine) && html`<${Acknowledge} machine=${machine} />`}
      ${machine.event && html`<a class="button"
        href=${eventPath(machine.event)}>Details</a>`}
      ${(kind === "alarm" || kind === "warning") && html`<${Listen} machine=${machine} />`}</p>
  </li>`;
}

export function Overview() {
  const { machines, connection } = useStore();
  const all = [...machines.values()].sort(worstFirst);
  if (!all.length) {
    if (connection === "connecting") return null;
    return html`<section class="message"><h1>No machine yet</h1>
      <p>Add one below <code>machines</code> in the configuration, then reload the service. <a href="node">Show the settings</a></p></section>`;
  }
  return html`<section class="overview"><${Sentence} machines=${all} />
    <ul class="cards">${all.map((one) => html`<${Card} key=${one.id} machine=${one} />`)}</ul></section>`;
}
