// One event: its picture, its sound, what was different, what was done about it.
import { html, useEffect, useState } from "./preact.js";
import { get } from "./api.js";
import { isAdmin, keep, useStore, command } from "./store.js";
import { bandText, endWords, levelText, machinePath, number, peakText, RAISED_BY, span, WORDS } from "./words.js";
import { colour, Facts, Shape, TestFlag, Time } from "./parts.js";

export function EventPage({ machine, event: id }) {
  const { events } = useStore(),
    [problem, setProblem] = useState(null),
    [copied, setCopied] = useState(false),
    [part, setPart] = useState({});
  const path = `api/events/${encodeURIComponent(id)}`;
  const known = events.get(id);
  useEffect(() => {
    get(path).then(
      (answer) => {
        keep(answer);
        setProblem(null);
      },
      (error) => setProblem(error.message),
    );
  }, [id, known?.seq]);
  const event = known;
  if (!event)
    return html`<section class="message"><h1>${problem ? "No such event" : ""}</h1>${problem &&
      html`<p>${problem} <a href=${machinePath(machine.id)}>Show ${machine.name}</a></p>`}</section>`;
  const isOpen = event.event_type !== "end",
    isCurrent = machine.event?.id === id;
  const acknowledged = event.acknowledged_at
    ? html`<${Time} at=${event.acknowledged_at} />`
    : isCurrent && machine.state?.acknowledged
      ? "yes"
      : "no";
  const picture = `${path}/picture.png?${event.has_clip ? "whole" : "start"}`;
  const copy = () =>
    navigator.clipboard.writeText(location.href).then(
      () => setCopied(true),
      () => {},
    );
  return html`<article class="event ${colour(event.severity)}">
    <p class="path"><a href=${machinePath(machine.id)}>${machine.name}</a> <${TestFlag} event=${event} /></p>
    <h1><span class="badge ${colour(event.severity)}">
      <${Shape} kind=${event.severity} />${WORDS[event.severity]}</span> <${Time} at=${event.onset_ts} />${isOpen ? ", still open" : `, lasted ${span(event.duration_s)}`}</h1>
    <p class="why">${event.summary}</p>
    <div class="actions">
      ${isAdmin() && isOpen && isCurrent && !machine.state?.acknowledged && html`<button class="primary"
        onClick=${() => command(machine.id, "ack", { id }, { done: "Acknowledged." })}>Acknowledge</button>`}
      ${navigator.clipboard && html`<button onClick=${copy}>${copied ? "Link copied" : "Copy the link"}</button>`}
      ${event.has_clip && html`<a class="button" href="${path}/clip.flac"
        download=${event.clip || `${id}.flac`}>Save the sound</a>`}
    </div>
    ${
      (event.has_clip || isOpen) && !part.silent
        ? html`<audio controls preload="none" src="${path}/clip.flac"
          aria-label=${isOpen ? "Sound of this event so far" : "Sound of this event"}
          onError=${() => setPart({ ...part, silent: true })}></audio>`
        : html`<p class="meta">There is no sound of this event: none is stored, or it is private.</p>`
    }
    ${event.has_picture && html`<a href=${picture} hidden=${part.failed}><img class="picture" src=${picture}
      width="960" height="436" alt=${`Spectrogram, expected and measured spectrum, excess and score: ${event.summary}`}
      onError=${() => setPart({ ...part, failed: true })} /></a>`}
    <div class="columns">
      <section><h2>What is different</h2>
        <ul class="bands">${event.bands.map((band) => html`<li key=${band.low_hz}>${bandText(band)}</li>`)}
          ${!event.bands.length && html`<li class="meta">No single band stands out.</li>`}
          ${event.impulses_hz && html`<li>Impulses about ${number(event.impulses_hz)} times a second</li>`}</ul>
      </section>
      <section><h2>Facts</h2><${Facts} rows=${[
        ["Began", html`<${Time} at=${event.onset_ts} />`],
        ["Reported", html`<${Time} at=${event.started_at} />`],
        ["Ended", !isOpen && html`<${Time} at=${event.ts} />, ${endWords(event)}`],
        ["Lasted", isOpen ? `${span(event.duration_s)} so far` : span(event.duration_s)],
        ["Highest score", peakText(event)],
        ["Level", levelText(event.rms_dbfs)],
        ["Raised by", RAISED_BY[event.raised_by] || event.raised_by],
        ["Acknowledged", acknowledged],
        ["Clock", event.clock_synced ? "set" : "was not set: the times may be wrong"],
        ["Bundle", event.bundle],
      ]} /></section>
    </div>
  </article>`;
}
