// One machine: state, live sound, score, events, commands.
import { html, useEffect, useState } from "./preact.js";
import { get } from "./api.js";
import { command, isAdmin, keep, useStore } from "./store.js";
import { explain, kindOf, levelText, ratioText, span, WORDS } from "./words.js";
import { Acknowledge, colour, Flags, Progress, Shape, StateBadge, Time } from "./parts.js";
import { Listen } from "./listen.js";
import { Waterfall } from "./waterfall.js";
import { Score } from "./score.js";

const PAGE = 20;
const newestFirst = (a, b) => (a.onset_ts < b.onset_ts ? 1 : -1);
const addressOf = (event) => `m/${encodeURIComponent(event.machine)}/e/${encodeURIComponent(event.id)}`;

function Events({ events, more, onMore }) {
  return html`<section aria-labelledby="events-title"><h2 id="events-title">Events</h2>
    ${events.length === 0 && html`<p class="meta">No event yet.</p>`}
    <ol class="events">${events.map(
      (event) => html`<li key=${event.id}>
      <a href=${addressOf(event)} class=${colour(event.severity)}>
        <span class="badge"><${Shape} kind=${event.severity} />${WORDS[event.severity]}</span>
        <span class="when"><${Time} at=${event.onset_ts} /></span>
        <span class="how-long">${event.event_type === "end" ? span(event.duration_s) : "open"}</span>
        <span class="peak">${ratioText(event.peak_ratio)}</span>
        <span class="what">${event.summary}</span>
      </a></li>`,
    )}</ol>
    ${more && html`<button onClick=${onMore}>Show older events</button>`}
  </section>`;
}

function Calibrate({ machine }) {
  const [minutes, setMinutes] = useState(10),
    [force, setForce] = useState(false);
  const undo = () =>
    command(machine.id, "calibrate", { undo: true }, { done: `${machine.name}: the last calibration is undone.` });
  const begin = (submit) => {
    submit.preventDefault();
    command(
      machine.id,
      "calibrate",
      { minutes: Number(minutes), force },
      { done: `${machine.name}: calibrating for ${minutes} min. Let it run as usual.`, undo },
    );
  };
  return html`<details class="panel"><summary>Calibrate</summary>
    <form onSubmit=${begin}>
      <p>After the microphone was moved or replaced: measures normal sound and fits the bundle to it. Monitoring continues.</p>
      <p class="row"><label>Minutes <input type="number" min="1" max="120" required value=${minutes}
        onInput=${(e) => setMinutes(e.target.value)} /></label>
      <label><input type="checkbox" checked=${force}
        onChange=${(e) => setForce(e.target.checked)} /> accept sound of a different machine</label></p>
      <p class="actions"><button class="primary">Start</button><button type="button"
        onClick=${undo}>Undo the last one</button></p>
    </form></details>`;
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
      <a class="button" href="m/${encodeURIComponent(id)}/learn">Learn</a>
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
  const [more, setMore] = useState(false),
    [pages, setPages] = useState(1),
    { id, state } = machine,
    kind = kindOf(state);
  const load = async (before) => {
    const query = new URLSearchParams({ limit: PAGE, ...(before && { before }) });
    const page = (await get(`api/machines/${encodeURIComponent(id)}/events?${query}`)).events;
    page.forEach(keep);
    setMore(page.length === PAGE);
  };
  useEffect(() => {
    load().catch(() => {});
  }, [id]);
  const own = [...events.values()]
    .filter((one) => one.machine === id)
    .sort(newestFirst)
    .slice(0, PAGE * pages);
  const go = (event) => document.querySelector(`a[href="${addressOf(event)}"]`)?.click();
  return html`<article class="machine ${colour(kind)}">
    <header class="head">
      <div><h1>${machine.name}</h1>
        <p class="meta states"><${StateBadge} state=${state} />${state && html`<span>since <${Time} at=${state.since} />
          </span>`}<${Flags} state=${state} />
        <span>level ${levelText(state?.rms_dbfs)}</span></p></div>
      <p class="ratio big" title="score / threshold; 1 is the threshold">${ratioText(state?.ratio)}</p>
      <p class="why">${explain(machine)}${machine.info?.learned === false &&
        html` <a href="m/${encodeURIComponent(id)}/learn">First steps</a>`}</p>
      <${Actions} machine=${machine} />
      <${Progress} learning=${machine.learning} />
      <${Outcome} response=${machine.response} />
    </header>
    <${Waterfall} machine=${machine} />
    <${Score} machine=${machine} events=${own} onOpen=${go} />
    <${Events} events=${own} more=${more} onMore=${() =>
      load(own.at(-1)?.onset_ts).then(
        () => setPages(pages + 1),
        () => {},
      )} />
  </article>`;
}
