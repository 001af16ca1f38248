// The live spectrogram of the frames that are scored, and the expected against the present spectrum.
import { html, useEffect, useRef, useState } from "./preact.js";
import { onFrame } from "./store.js";
import { frequency } from "./words.js";

const SECONDS = 60,
  SEGMENT_TICKS = 10,
  STILL_MS = 10000;
const MAGMA = "0000040a08221d114736106b51127c6a1c818326819c2e7fb73779d0416fe75263f56b5cfc8961fea772fec488fde2a3fcfdbf";

/** 256 colours, interpolated between 17 of Matplotlib's magma. */
const PALETTE = (() => {
  const anchors = MAGMA.match(/../g).map((two) => parseInt(two, 16));
  return Uint32Array.from({ length: 256 }, (_, level) => {
    const at = (level / 255) * 16,
      i = Math.min(15, Math.floor(at)),
      part = at - i;
    const [r, g, b] = [0, 1, 2].map((c) => Math.round(anchors[3 * i + c] * (1 - part) + anchors[3 * i + 3 + c] * part));
    return (255 << 24) | (b << 16) | (g << 8) | r;
  });
})();

/** The last 60 s, one column a frame, one row a band. Columns without sound stay empty. */
export class Picture {
  constructor(nBands, frameS) {
    this.frameS = frameS;
    this.canvas = Object.assign(document.createElement("canvas"), { width: Math.round(SECONDS / frameS), height: nBands });
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.end = null;
  }

  push({ t, n, levels }) {
    const { width, height } = this.canvas,
      end = Date.parse(t);
    const passed = this.end === null ? n : Math.round((end - this.end) / 1000 / this.frameS);
    // A long part may repeat what is shown already.
    const shift = Math.min(width, passed > 1.5 * n || passed < 0.5 * n ? Math.max(passed, 0) : n);
    this.end = end;
    this.context.globalCompositeOperation = "copy";
    this.context.drawImage(this.canvas, -shift, 0);
    const image = this.context.createImageData(n, height),
      pixels = new Uint32Array(image.data.buffer);
    for (let frame = 0; frame < n; frame++)
      for (let band = 0; band < height; band++) pixels[(height - 1 - band) * n + frame] = PALETTE[levels[frame * height + band]];
    this.context.putImageData(image, width - n, 0);
  }
}

const decode = (frame) => ({ ...frame, levels: Uint8Array.from(atob(frame.levels), (c) => c.charCodeAt(0)) });

/** The place of a frequency on the axis, 0 at the bottom and 1 at the top; every band is equally high. */
export function placeOf(hz, limits) {
  const last = limits.length - 1;
  if (hz <= limits[0]) return 0;
  for (let i = 0; i < last; i++) if (hz <= limits[i + 1]) return (i + (hz - limits[i]) / (limits[i + 1] - limits[i])) / last;
  return 1;
}

const TICKS = [50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000, 24000];

function Axis({ limits, bands }) {
  const n = limits.length - 1,
    places = [];
  for (const hz of TICKS.filter((one) => one > limits[0] && one <= limits[n])) {
    const at = placeOf(hz, limits);
    if (!places.length || at - places.at(-1).at > 0.08) places.push({ hz, at });
  }
  return html`<div class="axis" aria-hidden="true">
      ${places.map(({ hz, at }) => html`<span key=${hz}
        style=${{ bottom: `${100 * at}%` }}>${hz >= 1000 ? `${hz / 1000}k` : hz}</span>`)}
      <svg viewBox="0 0 4 ${n}" preserveAspectRatio="none"><path d=${limits.map((_, i) => `M0 ${i}H4`).join("")} /></svg>
    </div>
    <div class="marks" aria-hidden="true">${bands.map((band) => {
      const low = placeOf(band.low_hz, limits),
        high = placeOf(band.high_hz, limits);
      return html`<i style=${{ bottom: `${100 * low}%`, height: `${Math.max(100 * (high - low), 1)}%` }} />`;
    })}</div>`;
}

function Spectrum({ info, present }) {
  const n = info.bands_hz.length - 1,
    [low, high] = info.range_db;
  const x = (db) => (100 * (Math.max(low, Math.min(high, db)) - low)) / (high - low);
  const line = (levels) => levels.map((db, i) => `${i ? "L" : "M"}${x(db).toFixed(1)} ${n - i - 0.5}`).join("");
  const expected = info.expected_db;
  let words = "No spectrum yet",
    area = null;
  if (present && expected) {
    const excess = present.map((db, i) => db - expected[i]),
      most = excess.indexOf(Math.max(...excess));
    words = `Present against expected spectrum; the largest excess is ${Math.round(excess[most])} dB at ${frequency(info.bands_hz[most])}`;
    area = `${line(present.map((db, i) => Math.max(db, expected[i])))}${[...expected]
      .reverse()
      .map((db, i) => `L${x(db).toFixed(1)} ${i + 0.5}`)
      .join("")}Z`;
  }
  return html`<svg class="spectrum" viewBox="0 0 100 ${n}" preserveAspectRatio="none" role="img" aria-label=${words}>
    ${area && html`<path class="excess" d=${area} />`}
    ${expected && html`<path class="expected" d=${line(expected)} />`}
    ${present && html`<path class="present" d=${line(present)} />`}
  </svg>`;
}

export function Waterfall({ machine }) {
  const { info, event, id } = machine,
    place = useRef(),
    [present, setPresent] = useState(null);
  const nBands = info?.bands_hz ? info.bands_hz.length - 1 : 0;
  useEffect(() => {
    if (!nBands) return;
    const picture = new Picture(nBands, info.frame_s),
      canvas = place.current,
      means = [];
    const still = matchMedia("(prefers-reduced-motion: reduce)");
    let drawn = 0;
    const draw = () => {
      const scale = devicePixelRatio || 1,
        width = Math.round(canvas.clientWidth * scale),
        height = Math.round(canvas.clientHeight * scale);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, width, height);
      context.imageSmoothingQuality = "high";
      context.drawImage(picture.canvas, 0, 0, width, height);
    };
    const resized = new ResizeObserver(draw);
    resized.observe(canvas);
    const [low, high] = info.range_db,
      segment = Math.round((SEGMENT_TICKS * info.tick_s) / info.frame_s);
    const stop = onFrame(id, (message) => {
      const frame = decode(message);
      if (frame.levels.length !== frame.n * nBands || !frame.n) return;
      picture.push(frame);
      const first = Math.max(0, frame.n - segment);
      if (first) means.length = 0;
      const mean = Array.from({ length: nBands }, (_, band) => {
        let sum = 0;
        for (let i = first; i < frame.n; i++) sum += frame.levels[i * nBands + band];
        return low + ((sum / (frame.n - first)) * (high - low)) / 255;
      });
      if (means.push(mean) > SEGMENT_TICKS) means.shift();
      if (still.matches && performance.now() - drawn < STILL_MS && drawn) return;
      drawn = performance.now();
      draw();
      setPresent(mean.map((_, band) => means.reduce((sum, one) => sum + one[band], 0) / means.length));
    });
    return () => {
      stop();
      resized.disconnect();
    };
  }, [id, info?.bundle, nBands]);
  if (!nBands)
    return html`<div class=${info ? "" : "hearing empty"}>
      <p class="meta">${info && "The spectrogram appears when the machine is monitored."}</p></div>`;
  return html`<div class="hearing">
    <h2>Sound now</h2><h2 class="right">Spectrum</h2>
    <div class="fall"><${Axis} limits=${info.bands_hz} bands=${event?.bands || []} /><canvas ref=${place} role="img"
      aria-label="Live spectrogram of the last 60 seconds, newest at the right"></canvas></div>
    <${Spectrum} info=${info} present=${present} />
    <p class="scale" aria-hidden="true"><span>60 s ago</span><span>40</span><span>20</span><span>now</span></p>
    <p class="legend"><span class="key expected">expected</span> <span class="key present">now</span></p>
  </div>`;
}
