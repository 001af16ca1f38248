// The score over time, with warning and alarm lines and events as marks.
import { html, useEffect, useRef, useState } from "./preact.js";
import { get, ofMachine } from "./api.js";
import { moment, ratioText } from "./words.js";

const HOUR = 3600;
const RANGES = {
  "1 h": [HOUR, 10, 10],
  "24 h": [24 * HOUR, 120, 60],
  "30 d": [720 * HOUR, HOUR, 600],
  "1 y": [8760 * HOUR, 6 * HOUR, 3600],
}; // length, step, refresh, s
const HEIGHT = 220;
const LEVELS = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200];
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function columns(points) {
  const pick = (key) => points.map((one) => one.ratio?.[key] ?? null);
  return [points.map((one) => Date.parse(one.t) / 1000), pick("max"), pick("min"), pick("mean")];
}

/** The hour, or the date where ticks are days apart. */
function timeLabels(_, values, __, ___, step) {
  const day = { day: "numeric", month: "short" },
    hour = { hour: "2-digit", minute: "2-digit" };
  return values.map((at) => {
    const t = new Date(at * 1000),
      isMidnight = t.getHours() === 0 && t.getMinutes() === 0;
    return t.toLocaleString("en-GB", step >= 86400 || isMidnight ? day : hour);
  });
}

function drawLines(plot, alarm) {
  const { ctx, bbox } = plot,
    scale = devicePixelRatio;
  for (const [at, name, word] of [
    [alarm > 1 && 1, "--warning", "warning"],
    [alarm, "--alarm", "alarm"],
  ]) {
    if (!at) continue; // with one level, every anomaly is an alarm
    const y = Math.round(plot.valToPos(at, "y", true)) + 0.5;
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = css(name);
    ctx.lineWidth = scale;
    ctx.setLineDash([6 * scale, 4 * scale]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.font = `${13 * scale}px system-ui, sans-serif`;
    ctx.textAlign = "left";
    ctx.textBaseline = "bottom";
    ctx.fillText(word, bbox.left + 4 * scale, y - 2 * scale);
    ctx.restore();
  }
}

function drawMarks(plot, events) {
  const { ctx, bbox } = plot,
    scale = devicePixelRatio,
    r = 5 * scale;
  ctx.save();
  for (const event of events) {
    const x = plot.valToPos(Date.parse(event.onset_ts) / 1000, "x", true),
      y = bbox.top + r + 1;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.fillStyle = css(event.severity === "alarm" ? "--alarm" : "--warning");
    ctx.beginPath();
    ctx.moveTo(x, y - r);
    ctx.lineTo(x + r, event.severity === "alarm" ? y + r : y);
    if (event.severity !== "alarm") ctx.lineTo(x, y + r);
    ctx.lineTo(x - r, event.severity === "alarm" ? y + r : y);
    ctx.fill();
  }
  ctx.restore();
}

export function Score({ machine, events, onOpen }) {
  const place = useRef(),
    plot = useRef(null),
    latest = useRef();
  const [range, setRange] = useState("1 h"),
    [points, setPoints] = useState([]),
    [at, setAt] = useState(null),
    [problem, setProblem] = useState(null);
  const { id, info } = machine;
  const now = Date.now() / 1000;
  latest.current = { events, alarm: info?.alarm_ratio, onOpen, range: [now - RANGES[range][0], now] };

  useEffect(() => {
    let isGone = false,
      timer;
    const [length, step, every] = RANGES[range];
    const load = async () => {
      const now = Date.now(),
        query = new URLSearchParams({ from: new Date(now - length * 1000).toISOString(), to: new Date(now).toISOString(), step });
      if (!document.hidden) {
        try {
          const history = await get(ofMachine(id, `history?${query}`));
          if (isGone) return;
          setPoints(history.points);
          setProblem(null);
        } catch (error) {
          if (!isGone) setProblem(error.message);
        }
      }
      timer = setTimeout(load, every * 1000);
    };
    load();
    return () => {
      isGone = true;
      clearTimeout(timer);
    };
  }, [id, range]);

  useEffect(() => {
    let uPlot = null,
      isGone = false;
    const build = () => {
      if (!uPlot || isGone) return;
      plot.current?.destroy();
      const axis = {
        stroke: css("--muted"),
        grid: { stroke: css("--line"), width: 1 },
        ticks: { show: false },
        font: "13px system-ui, sans-serif",
      };
      plot.current = new uPlot(
        {
          width: place.current.clientWidth,
          height: HEIGHT,
          legend: { show: false },
          padding: [8, 24, 0, 0],
          cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
          scales: {
            x: { range: () => latest.current.range },
            y: {
              distr: 3,
              range: (_, min, max) => [
                Math.min(0.1, Math.max(min || 0.1, 0.02)),
                Math.max(2 * max || 0, 1.5 * (latest.current.alarm || 2), 4),
              ],
            },
          },
          axes: [
            { ...axis, space: 88, size: 32, values: timeLabels },
            {
              ...axis,
              size: 44,
              splits: (_, i, min, max) => LEVELS.filter((one) => one >= min && one <= max),
              values: (_, values) => values,
              filter: (_, values) => values,
            },
          ],
          series: [{}, { width: 0 }, { width: 0 }, { stroke: css("--ink"), width: 1.5, points: { show: false } }],
          bands: [{ series: [1, 2], fill: css("--shade") }],
          hooks: {
            draw: [
              (u) => {
                drawLines(u, latest.current.alarm);
                drawMarks(u, latest.current.events);
              },
            ],
            setCursor: [(u) => setAt(u.cursor.idx)],
          },
        },
        columns(latest.current.points || []),
        place.current,
      );
      plot.current.over.addEventListener("click", () => {
        const u = plot.current,
          near = latest.current.events
            .map((event) => [Math.abs(u.valToPos(Date.parse(event.onset_ts) / 1000, "x") - u.cursor.left), event])
            .sort((a, b) => a[0] - b[0])[0];
        if (near && near[0] < 12) latest.current.onOpen(near[1]);
      });
    };
    import("./uplot.js").then((module) => {
      uPlot = module.default;
      build();
    }); // a third of the page, only needed here
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: place.current.clientWidth, height: HEIGHT }));
    resized.observe(place.current);
    addEventListener("themechange", build);
    return () => {
      resized.disconnect();
      removeEventListener("themechange", build);
      plot.current?.destroy();
      isGone = true;
    };
  }, []);

  latest.current.points = points;
  useEffect(() => {
    plot.current?.setData(columns(points));
  }, [points, info?.alarm_ratio]);
  useEffect(() => {
    plot.current?.redraw(false);
  }, [events.length]);

  const one = at != null ? points[at] : null,
    highest = points.reduce((most, p) => Math.max(most, p.ratio?.max ?? 0), 0);
  return html`<section class="score" aria-labelledby="score-title">
    <div class="row"><h2 id="score-title">Score</h2>
      <p class="meta">${problem || (one?.ratio?.mean != null ? `${moment(one.t)}: ${ratioText(one.ratio.mean)}, at most ${ratioText(one.ratio.max)}` : highest ? `at most ${ratioText(highest)} in the last ${range}` : "no scores in this time")}</p>
    <div class="choice" role="group" aria-label="Range">${Object.keys(RANGES).map((name) => html`<button key=${name}
      aria-pressed=${name === range} onClick=${() => setRange(name)}>${name}</button>`)}</div></div>
    <div class="plot" ref=${place} role="img"
      aria-label=${`Score over the last ${range}; at most ${ratioText(highest)} the threshold. The list below has the events.`}></div>
  </section>`;
}
