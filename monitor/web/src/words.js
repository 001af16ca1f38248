// Words and numbers as people read them. Pure functions.

export const WORDS = {
  normal: "Normal",
  warning: "Warning",
  alarm: "Alarm",
  unknown: "Unknown",
  starting: "Starting",
  learning: "Learning",
  idle: "Idle",
  disabled: "Disabled",
  offline: "Offline", // of a fleet
};
const ORDER = ["alarm", "warning", "unknown", "learning", "starting", "normal", "idle", "disabled"];

/** The kind of a state, which decides its shape, colour and place: a severity, or the state itself. */
export const kindOf = (state) => {
  if (!state) return "starting";
  if (state.state === "anomaly") return state.severity || "warning";
  return state.state in WORDS ? state.state : "unknown";
};
export const worstFirst = (a, b) =>
  ORDER.indexOf(kindOf(a.state)) - ORDER.indexOf(kindOf(b.state)) ||
  (b.state?.ratio ?? 0) - (a.state?.ratio ?? 0) ||
  a.id.localeCompare(b.id);

const REASONS = {
  bandwidth: "The sound lacks the upper frequencies that the bundle expects. Use a microphone with a higher rate.",
  silent: "The microphone delivers silence. Check its mute switch, gain and cable.",
  flat_line: "The microphone delivers a constant value. Check its cable, or replace it.",
  clipped: "The sound is too loud for the microphone. Reduce its gain or move it away.",
  repeating: "The sound repeats itself exactly, as from a stuck buffer. Replug the microphone.",
  gap: "Samples are missing. The computer may be overloaded, or the microphone's cable loose.",
  over_threshold: "Above the threshold, not decided yet. Wait for half a minute.",
  microphone_absent: "The microphone is not found. Plug it in, or find its name with “monitor devices”.",
  microphone_busy: "Another program uses the microphone. Stop that program.",
  microphone_denied: "Access to the microphone is denied. Add the service's user to the group audio.",
  microphone_frozen: "The microphone delivers nothing. It is being reopened; replug it if this lasts.",
  microphone_lost: "The microphone was unplugged. Plug it in again.",
  microphone_failed: "The microphone failed. It is being reopened; the log has the cause.",
  microphone_channel: "The microphone has fewer channels than configured. Correct channel in the settings.",
  bundle: "The machine's bundle is missing or damaged. The log names the check that failed.",
  score_error: "Scoring failed; the machine is being restarted. The log has the cause.",
  shutdown: "The service was stopped.",
  reloaded: "The settings were changed; the machine restarts.",
  command: "Disabled by a command. Enable it to resume.",
  configuration: "Disabled by the configuration (enabled: false).",
};
export const RAISED_BY = {
  segments: "lasting change over about 12 of 20 segments",
  fast: "much louder than all normal sound",
  slow: "above its usual level for 15 minutes",
};
const END_REASONS = {
  cleared: "normal again",
  lost: "no usable sound for 60 s",
  shutdown: "the service was stopped",
  restarted: "the service was restarted",
  disabled: "the machine was disabled",
  reloaded: "the settings were changed",
};
export const endWords = (event) => END_REASONS[event.end_reason] || event.end_reason;

/** The addresses of a machine's view, and of an event's. */
export const machinePath = (id) => `m/${encodeURIComponent(id)}`;
export const eventPath = (event) => `${machinePath(event.machine)}/e/${encodeURIComponent(event.id)}`;

/** Whether a machine that is to be monitored has not learned its normal sound, or has not even a bundle to start from. */
export const isUnlearned = ({ info }) => info?.learned === false && info.enabled;
export const hasNoBundle = (machine) => isUnlearned(machine) && !machine.info.bundle;
/** Whether it learns or calibrates now. */
export const isAdapting = ({ learning }) => !!learning && learning.phase !== "not_started";

/** A reason in words, with the next step. */
export const reasonText = (reason) => REASONS[reason] || reason.replaceAll("_", " ");

/** One sentence below a machine's name: the anomaly, or the reason of a state, with the next step. */
export const explain = (machine) => {
  const { state, event } = machine,
    kind = kindOf(state);
  if ((kind === "alarm" || kind === "warning") && event) return event.summary || "different from usual";
  if (state?.reason) return reasonText(state.reason);
  if (kind === "starting") return "Collecting sound; the first score follows within 10 s.";
  if (kind === "learning")
    return isAdapting(machine)
      ? "Learning normal sound. Let the machine run as usual."
      : "Nothing is judged until it has learned its normal sound.";
  if (kind === "idle") return "The machine is off.";
  const highest = Math.max(0, ...(machine.strip || []).map((one) => one.ratio_max ?? 0));
  return highest ? `At most ${ratioText(highest)} in the last 24 hours.` : "";
};

const two = new Intl.NumberFormat("en", { minimumSignificantDigits: 2, maximumSignificantDigits: 2 });
export const number = (value) => (value == null ? "–" : two.format(value));
export const ratioText = (ratio) => (ratio == null ? "–" : `${two.format(ratio)} ×`);
/** The peak of an anomaly. A number alone is a multiple of the threshold; other rules have scales of their own. */
export const peakText = (event) =>
  ratioText(event.peak_ratio) + ({ fast: " the limit for gross faults", slow: " the limit of the slow path" }[event.raised_by] || "");
export const levelText = (dbfs) => (dbfs == null ? "–" : `${Math.round(dbfs)} dBFS`.replace("-", "−"));
export const frequency = (hz) => (hz < 1000 ? `${Math.round(hz)} Hz` : `${(hz / 1000).toFixed(1)} kHz`);
export const bandText = (band) => {
  const range =
    band.high_hz < 1000
      ? `${Math.round(band.low_hz)}–${Math.round(band.high_hz)} Hz`
      : `${(band.low_hz / 1000).toFixed(1)}–${(band.high_hz / 1000).toFixed(1)} kHz`;
  return `${Math.round(Math.abs(band.excess_db))} dB ${band.excess_db < 0 ? "less" : "more"} than usual at ${range}`;
};
export const span = (seconds) => {
  if (seconds == null) return "–";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 129600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
};
const clock = { hour: "2-digit", minute: "2-digit" };
/** Local time: the hour alone today, with the weekday this week, otherwise with the date. */
export const moment = (text, now = Date.now()) => {
  const t = new Date(text);
  if (Number.isNaN(+t)) return "–";
  const day = (x) => new Date(x).toDateString();
  const more =
    day(t) === day(now) ? {} : Math.abs(now - t) < 6 * 864e5 ? { weekday: "long" } : { day: "numeric", month: "short" };
  if (t.getFullYear() !== new Date(now).getFullYear()) more.year = "numeric";
  return t.toLocaleString("en-GB", { ...more, ...clock }).replace(" at ", " ");
};
export const megabytes = (mb) =>
  mb == null ? "–" : mb >= 1000 ? `${(mb / 1000).toFixed(mb < 1e4 ? 1 : 0)} GB` : `${Math.round(mb)} MB`;
