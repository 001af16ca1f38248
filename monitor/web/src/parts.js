// Small parts that several views share.
import { html } from "./preact.js";
import { isAdapting, kindOf, moment, reasonText, span, WORDS } from "./words.js";
import { changed, command, isAdmin, store } from "./store.js";

const SHAPES = {
  // in a box of 16 x 16
  normal: html`<circle cx="8" cy="8" r="6" />`,
  warning: html`<path d="M8 1l7 7-7 7-7-7z" />`,
  alarm: html`<path d="M8 1.5l7.5 13h-15z" />`,
  unknown: html`<path d="M4.8 5.4a3.2 3.2 0 1 1 4.8 2.8C8.4 8.9 8 9.4 8 10.6M8 13.4v.4" class="line" />`,
  idle: html`<circle cx="8" cy="8" r="5.2" class="line" />`,
};
const shapeOf = (kind) => (kind in SHAPES ? kind : kind === "disabled" ? "idle" : "unknown");

export const Shape = ({ kind }) =>
  html`<svg class="shape ${shapeOf(kind)}" viewBox="0 0 16 16" aria-hidden="true">${SHAPES[shapeOf(kind)]}</svg>`;
export const Time = ({ at }) => html`<time datetime=${at} title=${`${at} UTC`}>${moment(at)}</time>`;
export const colour = (kind) => `is-${shapeOf(kind)}`;

/** A state in shape, colour and word. */
export const StateBadge = ({ state }) => {
  const kind = kindOf(state);
  return html`<span class="badge ${colour(kind)}"><${Shape} kind=${kind} />${WORDS[kind]}</span>`;
};

/** The last 24 hours: height is the highest ratio, on a logarithmic scale; the line is the threshold. */
export const Strip = ({ points, alarm_ratio: alarm }) => {
  const height = (ratio) => Math.max(1, Math.min(23, 12 + 7 * Math.log2(Math.max(ratio, 0.1)) * 0.8));
  const highest = points.reduce((most, one) => Math.max(most, one.ratio_max ?? 0), 0);
  const n = points.filter((one) => one.state === "anomaly").length;
  const words = !points.length
    ? "No history yet"
    : `Last 24 hours: at most ${highest.toFixed(1)} times the threshold, ${n ? `anomalies in ${n} quarters of an hour` : "no anomaly"}`;
  return html`<svg class="strip" viewBox="0 0 ${Math.max(points.length, 96)} 24" preserveAspectRatio="none" role="img"
    aria-label=${words}>
    <path d="M0 12H96" class="threshold" />
    ${points.map((one, i) =>
      one.ratio_max == null
        ? one.state === "idle" || one.state === null
          ? null
          : html`<rect key=${i} x=${i} y="22" width="0.8" height="2" class="is-unknown" />`
        : html`<rect key=${i} x=${i} y=${24 - height(one.ratio_max)} width="0.8" height=${height(one.ratio_max)}
          class=${one.state === "anomaly" ? (alarm && one.ratio_max < alarm ? "is-warning" : "is-alarm") : one.ratio_max >= 1 ? "is-warning" : "is-normal"} />`,
    )}
  </svg>`;
};

export const canAcknowledge = (machine) => isAdmin() && machine.event && machine.state?.severity && !machine.state.acknowledged;
export const Acknowledge = ({ machine }) =>
  html`<button class="primary" disabled=${!canAcknowledge(machine)} onClick=${() =>
    command(
      machine.id,
      "ack",
      { id: machine.event.id },
      { done: `${machine.name}: acknowledged. It does not notify again until it is normal.` },
    )}>Acknowledge</button>`;

/** Marks the event of `monitor test-alarm`. */
export const TestFlag = ({ event }) =>
  event?.test && html`<span class="badge is-alarm"><${Shape} kind="alarm" />TEST</span> <span>no machine has a fault</span>`;

/** What else is to be known about a state, in words. */
export const Flags = ({ state }) => html`${state?.acknowledged && html`<span class="flag">acknowledged</span>`}
  ${state?.snoozed && html`<span class="flag">snoozed until <${Time} at=${state.snoozed_until} /></span>`}
  ${state?.flooding && html`<span class="flag">many alarms: ${state.recent_anomalies} in 10 min</span>`}`;

export const Facts = ({ rows }) =>
  html`<dl class="facts">${rows
    .filter(([, value]) => value != null && value !== "" && value !== false)
    .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

/** How far learning or calibration is; nothing while neither runs. */
export const Progress = ({ machine }) => {
  if (!isAdapting(machine)) return null;
  const { command, missing, done_s: done, wanted_s: wanted, resumed_s: resumed, problem } = machine.learning;
  const { n_unusable: unusable, n_ticks: ticks } = machine.learning;
  const percent = wanted ? Math.min(100, (100 * done) / wanted) : 0;
  return html`<div class="progress"><span class="track" role="progressbar" aria-label=${command} aria-valuemin="0"
    aria-valuemax="100" aria-valuenow=${Math.round(percent)}>
    <i style=${{ width: `${percent}%` }} />
      </span> <span>${command === "learn" ? "Learning" : "Calibrating"}: ${span(done)} of ${span(wanted)}; ${missing}
      ${resumed > 0 && `, ${span(resumed)} were recorded before a restart`}
      ${unusable > 0 && `; ${unusable} of ${ticks} ticks unusable`}</span>
    ${problem && html`<span class="badge is-warning"><${Shape} kind="warning" />${reasonText(problem)}</span>`}</div>`;
};

export const Notice = () => {
  const { notice } = store;
  const close = () => {
    store.notice = null;
    changed();
  };
  return html`<div class="notice-place" role="status">${
    notice &&
    html`<div class="notice ${notice.bad ? "bad" : ""}"><span>${notice.text}</span>
    ${
      notice.undo &&
      html`<button onClick=${() => {
        store.notice = null;
        notice.undo();
      }}>Undo</button>`
    }
    <button onClick=${close} aria-label="Close this message">×</button></div>`
  }</div>`;
};

/** Goes back a step: the last calibration, or the last learning. The step that leaves nothing learned asks again. */
export function Undo({ machine: { id, name, info, response } }) {
  if (!info?.adapted || !isAdmin()) return null;
  const isLast = info.adapted === "learn" && response?.command === "calibrate" && response.reason?.includes("leave nothing learned"),
    what = info.adapted === "learn" ? "learning" : "calibration",
    undo = () => command(id, "calibrate", { undo: true, force: isLast }, { done: `${name}: undoing the last ${what}.` });
  return html`<p class="row"><button type="button" onClick=${undo}>${isLast ? "Undo it anyway" : `Undo the last ${what}`}</button>
    ${isLast && html`<span>Then nothing is learned, and ${name} is not monitored until it has learned again.</span>`}</p>`;
}
