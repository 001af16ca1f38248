// The last events of all machines, the newest first.
import { html, useState } from "./preact.js";
import { get } from "./api.js";
import { useStore } from "./store.js";
import { fleet } from "./fleet.js";
import { pathOf, Picture } from "./fleet-details.js";
import { ratioText, span, WORDS } from "./words.js";
import { colour, Shape, Time } from "./parts.js";

const PAGE = 100;

function Event({ event, isLast }) {
  const [isOpen, setOpen] = useState(false),
    key = `${event.node}/${event.machine}`,
    row = fleet.rows.get(key);
  return html`<li class=${colour(event.severity)}>
    <span class="badge"><${Shape} kind=${event.severity} />${WORDS[event.severity]}</span>
    <span class="when"><${Time} at=${event.onset} /></span>
    <a href="./?q=${encodeURIComponent(key)}">${row?.name || event.machine}<span class="meta"> ${key}</span></a>
    <span class="how-long">${event.event_type === "end" ? span(event.duration_s) : "open"}</span>
    <span class="peak">${event.test ? "TEST" : ratioText(event.peak_ratio)}</span>
    <span class="what">${event.summary}</span>
    ${isLast && html`<button aria-expanded=${isOpen} onClick=${() => setOpen(!isOpen)}>Picture</button>`}
    ${isOpen && html`<${Picture} path=${pathOf(key)} id=${event.id} words=${`Last event of ${key}: ${event.summary}`} />`}
  </li>`;
}

export function Events() {
  useStore();
  const [older, setOlder] = useState([]),
    [problem, setProblem] = useState(null),
    [isEnd, setEnd] = useState(false);
  const known = new Map(older.map((one) => [one.id, one]));
  for (const one of fleet.events.values()) known.set(one.id, { ...one, onset: one.onset_ts });
  const all = [...known.values()].sort((a, b) => (a.onset < b.onset || (a.onset === b.onset && a.id > b.id) ? 1 : -1));
  const seen = new Set();
  const isLast = (event) => {
    const key = `${event.node}/${event.machine}`;
    return fleet.rows.has(key) && !seen.has(key) && !!seen.add(key);
  };
  const last = older.at(-1); // of those that were asked for: what arrives by itself may be out of order
  const more = () =>
    get(`api/fleet/events?${new URLSearchParams({ limit: PAGE, ...(last && { before: last.onset, after_id: last.id }) })}`).then(
      ({ events }) => {
        setOlder([...older, ...events]);
        setEnd(events.length < PAGE);
        setProblem(null);
      },
      (error) => setProblem(error.message),
    );
  return html`<section class="fleet"><h1>Events</h1>
    ${!all.length && html`<p class="meta">There was no event since the overview started.</p>`}
    <ol class="fleet-events">${all.map((event) => html`<${Event} key=${event.id} event=${event} isLast=${isLast(event)} />`)}</ol>
    ${problem && html`<p class="meta" role="alert">${problem}</p>`}
    ${!isEnd && html`<button onClick=${more}>Show older events</button>`}
  </section>`;
}
