// Live sound: 16 kHz, 16-bit, mono, over one response. One listener at a time.
import { html } from "./preact.js";
import { ofMachine, open } from "./api.js";
import { changed, store } from "./store.js";

const RATE_HZ = 16000,
  LEAD_S = 0.3;
let current = null; // { id, context, abort }

/** Where samples go: an AudioWorklet, or buffers in sequence where the page has no secure origin. */
async function speaker(context) {
  if (context.audioWorklet) {
    await context.audioWorklet.addModule("static/pcm.js");
    const node = new AudioWorkletNode(context, "pcm", { numberOfInputs: 0, outputChannelCount: [1] });
    node.connect(context.destination);
    return (samples) => node.port.postMessage(samples, [samples.buffer]);
  }
  let next = 0;
  return (samples) => {
    const buffer = context.createBuffer(1, samples.length, RATE_HZ),
      source = context.createBufferSource();
    buffer.copyToChannel(samples, 0);
    source.buffer = buffer;
    source.connect(context.destination);
    if (next < context.currentTime || next > context.currentTime + 2) next = context.currentTime + LEAD_S;
    source.start(next);
    next += buffer.duration;
  };
}

async function play(machine) {
  stop();
  const mine = (current = { id: machine.id, context: new AudioContext({ sampleRate: RATE_HZ }), abort: new AbortController() });
  changed();
  try {
    const answer = await open(ofMachine(machine.id, "live.pcm"), { signal: mine.abort.signal });
    const reader = answer.body.getReader(),
      push = await speaker(mine.context);
    let odd = new Uint8Array(0);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const bytes = new Uint8Array(odd.length + value.length);
      bytes.set(odd);
      bytes.set(value, odd.length);
      const n = bytes.length >> 1,
        view = new DataView(bytes.buffer),
        samples = new Float32Array(n);
      for (let i = 0; i < n; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
      odd = bytes.slice(2 * n);
      if (n) push(samples);
    }
  } catch (error) {
    if (!mine.abort.signal.aborted) store.notice = { text: `Cannot listen: ${error.message}`, bad: true };
  }
  if (current === mine) stop();
}

function stop() {
  if (!current) return;
  current.abort.abort();
  current.context.close();
  current = null;
  changed();
}

export const Listen = ({ machine }) => {
  const isOn = current?.id === machine.id;
  return html`<button aria-pressed=${isOn}
    onClick=${() => (isOn ? stop() : play(machine))}>${isOn ? "Stop listening" : "Listen"}</button>`;
};
