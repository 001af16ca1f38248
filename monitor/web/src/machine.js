// One machine: state, live sound, score, events, commands.
import { html, useEffect, useState } from "./preact.js";
import { get, ofMachine } from "./api.js";
import { command, isAdmin, keep, useStore } from "./store.js";
import { eventPath, explain, hasNoBundle, isUnlearned, kindOf, levelText, machinePath, ratioText, span, WORDS } from "./words.js";
import { Acknowledge, colour, Flags, Progress, Shape, StateBadge, TestFlag, Time, Undo } from "./parts.js";
import { Listen } from "./listen.js";
import { Waterfall } from "./waterfall.js";
import { Score } from "./score.js";

const PAGE = 20;
const newestFirst = (a, b) => (a.started_at < b.started_at ? 1 : -1);

function Events({ events, more, onMore }) {
  return html`<section aria-labelledby="events-title"><h2 id="events-title">Events</h2>
    ${events.length === 0 && html`<p class="meta">No event yet.</p>`}
    <ol class="events">${events.map(
      (event) => html`<li key=${event.id}>
      <a href=${eventPath(event)} class=${colour(event.severity)}>
        <span class="badge"><${Shape} kind=${event.severity} />${WORDS[event.severity]}</span>
        <span class="when"><${Time} at=${event.onset_ts} /></span>
        <span class="how-long">${event.event_type === "end" ? span(event.duration_s) : "open"}</span>
        <span class="peak">${event.test ? "TEST" : ratioText(event.peak_ratio)}</span>
        <span class="what">${event.summary}</span>
      </a></li>`,
    )}</ol>
    ${more && html`<button onClick=${onMore}>Show older events</button>`}
  </section>`;
}

function Calibrate({ machine }) {
  const [minutes, setMinutes] = useState(10),
    [force, setForce] = useState(false);
  const begin = (submit) => {
    submit.preventDefault();
    command(
      machine.id,
      "calibrate",
      { minutes: Number(minutes), force },
      { done: `${machine.name}: calibrating for ${minutes} min. Let it run as usual.` },
    );
  };
  return html`<details class="panel"><summary>Calibrate</summary>
    <form onSubmit=${begin}>
      <p>After the microphone was moved or replaced: measures normal sound and fits the bundle to it. Monitoring continues.</p>
      <p class="row"><label>Minutes <input type="number" min="1" max="120" required value=${minutes}
        onInput=${(e) => setMinutes(e.target.value)} /></label>
      <label><input type="checkbox" checked=${force}
        onChange=${(e) => setForce(e.target.checked)} /> accept sound of a different machine</label></p>
      <p class="actions"><button class="primary">Start</button></p>
    </form><${Undo} machine=${machine} /></details>`;
}

function Actions({ machine }) {
  const { id, name, state, info } = machine;
  const snooze = (duration_s) =>
    command(
      id,
      "snooze",
      { duration_s },
      duration_s
        ? { done: `${name}: snoozed for ${span(duration_s)}.`, undo: () => snooze(0) }
        : { done: `${name}: the snooze has ended.` },
    );
  const toggle = (verb) =>
    command(id, verb, {}, { done: `${name}: ${verb}d.`, undo: () => toggle(verb === "disable" ? "enable" : "disable") });
  return html`<div class="actions">
    ${isAdmin() && html`<${Acknowledge} machine=${machine} />`}
    <${Listen} machine=${machine} />
    ${
      isAdmin() &&
      html`
      ${state?.snoozed ? html`<button onClick=${() => snooze(0)}>End the snooze</button>`
        : html`<button onClick=${() => snooze(3600)}>Snooze 1 h</button>`}
      ${kindOf(state) === "disabled" ? html`<button onClick=${() => toggle("enable")}>Enable</button>`
        : html`<button onClick=${() => toggle("disable")}>Disable</button>`}
      <a class="button" href="${machinePath(id)}/learn">Learn</a>
      <${Calibrate} machine=${machine} />`
    }
  </div>`;
}

function Outcome({ response }) {
  if (!response || !(response.result || !response.accepted)) return null;
  return html`<p class="meta outcome"
    role="status">${response.command}: ${response.result || `refused, ${response.reason}`} (<${Time} at=${response.ts} />)</p>`;
}

export function Machine({ machine }) {
  const { events } = useStore();
  const [more, setMore] = useState(null), // the last event that is shown, while there may be older ones
    { id, state } = machine,
    kind = kindOf(state);
  const load = async (last) => {
    const query = new URLSearchParams({ limit: PAGE, ...(last && { before: last.started_at, after_id: last.id }) });
    const page = (await get(ofMachine(id, `events?${query}`))).events;
    page.forEach(keep);
    setMore(page.length === PAGE ? page.at(-1) : null);
  };
  const loadMore = (last) => load(last).catch(() => {});
  useEffect(() => {
    loadMore();
  }, [id]);
  const own = [...events.values()]
    .filter((one) => one.machine === id && (!more || one.started_at >= more.started_at))
    .sort(newestFirst);
  const go = (event) => document.querySelector(`a[href="${eventPath(event)}"]`)?.click();
  return html`<article class="machine ${colour(kind)}">
    <header class="head">
      <div><h1>${machine.name}</h1>
        <p class="meta states"><${StateBadge} state=${state} />${state && html`<span>since <${Time} at=${state.since} />
          </span>`}<${Flags} state=${state} /> <${TestFlag} event=${machine.event} />
        <span>level ${levelText(state?.rms_dbfs)}</span></p></div>
      <p class="ratio big">${ratioText(state?.ratio)}${state?.ratio != null && html`<span class="meta">the threshold</span>`}</p>
      <p class="why">${explain(machine)}${isUnlearned(machine) &&
        html` <a href="${machinePath(id)}/learn">First steps</a>`}</p>
      <${Actions} machine=${machine} />
      <${Progress} machine=${machine} />
      <${Outcome} response=${machine.response} />
    </header>
    ${!hasNoBundle(machine) && html`<${Waterfall} machine=${machine} />`}
    <${Score} machine=${machine} events=${own} onOpen=${go} />
    <${Events} events=${own} more=${more} onMore=${() => loadMore(more)} />
  </article>`;
}
