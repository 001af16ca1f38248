// First steps: hear the machine, then learn its normal sound.
import { html, useState } from "./preact.js";
import { command, isAdmin, useStore } from "./store.js";
import { hasNoBundle, isAdapting, isUnlearned, machinePath } from "./words.js";
import { Progress, StateBadge, Time, Undo } from "./parts.js";
import { Meter } from "./node.js";
import { Listen } from "./listen.js";
import { Waterfall } from "./waterfall.js";

const advice = (state) => {
  if (state?.rms_dbfs == null) return "No sound arrives. Check the microphone on the page Node.";
  if (state.clipped_fraction > 0.001) return "Too loud: reduce the gain or move the microphone away.";
  if (state.rms_dbfs < -70) return "Very quiet: move the microphone closer or raise its gain.";
  return "Good level.";
};

export function Learn({ machine }) {
  useStore();
  const [minutes, setMinutes] = useState(10),
    [extend, setExtend] = useState(false),
    { id, name, state, info, response } = machine,
    isBlocked = hasNoBundle(machine),
    isBusy = isAdapting(machine);
  const begin = (submit) => {
    submit.preventDefault();
    command(
      id,
      "learn",
      { minutes: Number(minutes), extend },
      { done: `${name}: learning for ${minutes} min. Let it run as usual, at its usual loads.` },
    );
  };
  const stop = () => command(id, "learn", { stop: true }, { done: `${name}: learning was stopped.` });
  const told = response?.command === "learn" ? response : null;
  return html`<article class="learn"><p class="path"><a href=${machinePath(id)}>${name}</a></p><h1>First steps</h1>
    <ol class="steps">
      <li><h2>Place the microphone</h2><p>Close to the machine, away from doors and speech, where it can stay.</p>
        <p class="row"><${Meter} name=${name} dbfs=${state?.rms_dbfs} /><span>${isBlocked ? "It is measured once the machine has a bundle." : advice(state)}</span></p><p class="actions">
          <${Listen} machine=${machine} /></p></li>
      <li><h2>Run the machine as usual</h2>
        <p>At its usual speeds and loads. Nothing unusual may happen while it learns.</p>
        ${!isBlocked && html`<${Waterfall} machine=${machine} />`}</li>
      <li><h2>Learn</h2>
        ${isBlocked && html`<p>It needs a bundle to start from, such as the shipped one. Set <code>machines.${id}.bundle</code> in the
          configuration, then reload the service. If one is set, the log says what is wrong with it.</p>`}
        ${
          isAdmin()
            ? html`<form onSubmit=${begin}><p class="row"><label>Minutes <input type="number" min="6"
              max="240" required value=${minutes} onInput=${(e) => setMinutes(e.target.value)} /></label><label>
              <input type="checkbox" checked=${extend}
              onChange=${(e) => setExtend(e.target.checked)} /> add to what it has learned before</label>
              <button class="primary" disabled=${isBusy || isBlocked}>Learn</button>
              ${isBusy && machine.learning.command === "learn" && html`<button type="button" onClick=${stop}>Stop</button>`}
              </p></form>`
            : html`<p>An administrator can start it here, or on the node:</p>`
        }
        <p class="meta">The same on the node: <code>monitor learn --machine ${id} --minutes ${minutes}</code></p>
        <${Undo} machine=${machine} />
        <${Progress} machine=${machine} />
        ${machine.learning?.promises.length > 0 && html`<h3>What to expect</h3>
          <ul>${machine.learning.promises.map((one) => html`<li key=${one.minutes} class="promise">${one.text}</li>`)}</ul>`}
        ${told && html`<p role="status">${told.result || (told.accepted ? "Learning…" : `Refused: ${told.reason}`)} (<${Time} at=${told.ts} />)</p>`}</li>
      <li><h2>Monitor</h2><p class="row"><${StateBadge} state=${state} />
        <span>${isUnlearned(machine) ? "Nothing is judged until it has learned." : `Bundle ${info?.bundle || "none"} is in use.`}</span></p></li>
    </ol></article>`;
}
