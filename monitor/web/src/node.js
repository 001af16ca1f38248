// The computer itself: microphones, broker, disk, clock, versions, settings.
import { html, useEffect, useState } from "./preact.js";
import { get } from "./api.js";
import { useStore } from "./store.js";
import { levelText, machinePath, megabytes, number, span } from "./words.js";
import { Facts, Shape } from "./parts.js";

const QUIET_DBFS = -90;

/** A level from -90 to 0 dBFS, as a bar and a number. */
export function Meter({ name, dbfs }) {
  const percent = dbfs == null ? 0 : Math.max(0, Math.min(100, (100 * (dbfs - QUIET_DBFS)) / -QUIET_DBFS));
  return html`<span class="meter"><span class="track" role="meter" aria-label=${`Level of ${name}`}
    aria-valuemin=${QUIET_DBFS} aria-valuemax="0" aria-valuenow=${Math.round(dbfs ?? QUIET_DBFS)}
    aria-valuetext=${dbfs == null ? "no sound" : levelText(dbfs)}><i style=${{ width: `${percent}%` }} /></span>
      <span class="value">${dbfs == null ? "no sound" : levelText(dbfs)}</span></span>`;
}

const judged = (isGood, good, bad) =>
  html`<span class="verdict is-${isGood ? "normal" : "warning"}">
    <${Shape} kind=${isGood ? "normal" : "warning"} />${isGood ? good : bad}</span>`;

/** The settings as rows: a dotted name and a value. */
function rowsOf(value, name = "") {
  if (value !== null && typeof value === "object" && Object.keys(value).length)
    return Object.entries(value).flatMap(([key, inner]) => rowsOf(inner, name ? `${name}.${key}` : key));
  return [[name, value === null ? "none" : typeof value === "object" ? "none" : String(value)]];
}

export function Node() {
  const { node, machines } = useStore(),
    [settings, setSettings] = useState(null),
    [problem, setProblem] = useState(null);
  useEffect(() => {
    get("api/settings").then(setSettings, (error) => setProblem(error.message));
  }, []);
  const health = node?.health,
    mqtt = node?.mqtt,
    versions = node?.info?.versions || {};
  const users = (selector) => [...machines.values()].filter((one) => node.info?.machines?.[one.id]?.microphone === selector);
  return html`<article class="node"><h1>${node?.node || "Node"}</h1>
    <section><h2>Microphones</h2><ul class="microphones">${(node?.microphones || []).map(
      (one) => html`<li key=${one.selector}>
      <p>${judged(!one.trouble, one.selector, one.selector)} <span class="meta">${one.trouble || one.words || "being opened"}</span></p>
      ${users(one.selector).map((machine) => html`<p key=${machine.id} class="row">
        <a href=${machinePath(machine.id)}>${machine.name}</a>
        <${Meter} name=${machine.name} dbfs=${machine.state?.rms_dbfs} /></p>`)}
      ${(one.overruns > 0 || one.restarts > 0) &&
        html`<p class="meta">${one.overruns} overruns, reopened ${one.restarts} times since the start</p>`}
    </li>`,
    )}</ul></section>
    <div class="columns">
      <section><h2>Health</h2>${
        health &&
        html`<${Facts} rows=${[
          ["Broker", mqtt ? judged(mqtt.connected, "connected", "away") : "none configured"],
          ["Waiting for the broker", mqtt && `${health.queued} events`],
          ["Clock", judged(health.clock_synced, "set", "not synchronised")],
          [
            "Free disk space",
            health.disk_free_mb == null
              ? null
              : judged(health.disk_free_mb > 200, megabytes(health.disk_free_mb), megabytes(health.disk_free_mb)),
          ],
          ["Outbox", health.outbox_error && judged(false, "", health.outbox_error)],
          ["Memory", megabytes(health.memory_mb)],
          ["Processor", `${number(health.cpu_percent)} % of a core`],
          ["Temperature", health.temperature_c != null && `${Math.round(health.temperature_c)} °C`],
          ["Missing sound", span(health.gap_s)],
          ["Failures", judged(!health.failures, "none", `${health.failures} since the start; see the log`)],
          ["Running for", span(health.uptime_s)],
        ]} />`
      }</section>
      <section><h2>Versions and bundles</h2><${Facts} rows=${[
        ...Object.entries(versions),
        ...Object.entries(node?.info?.machines || {}).map(([id, one]) => [
          machines.get(id)?.name || one.name || id,
          `${one.bundle || (machines.get(id)?.info?.enabled ? "none" : "disabled")}${one.adapted ? ` (${one.adapted})` : ""}`,
        ]),
      ]} /></section>
    </div>
    <section><h2>Settings</h2>
      ${problem && html`<p class="meta">${problem}</p>`}
      ${settings?.problems?.length > 0 &&
        html`<ul class="problems">${settings.problems.map((line) => html`<li key=${line}>${judged(false, "", line)}</li>`)}</ul>`}
      <p class="meta">Read-only. Change the configuration file, check it with <code>monitor check-config</code>, then reload the service.</p>
      ${settings && html`<details><summary>All settings</summary><${Facts} rows=${rowsOf(settings.settings)} /></details>`}
    </section></article>`;
}
