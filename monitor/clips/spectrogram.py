"""The picture of a clip: spectrogram, measured and expected spectrum, excess, and the ratio over time."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from monitor.arrays import F32, F64
from monitor.block import Block
from monitor.clips.clip import EventClip
from monitor.events.event import rfc3339
from monitor.events.headline import ratio_text
from monitor.explain.reference import Reference
from monitor.scoring.frames import stream_frames
from monitor.scoring.front_end import FrontEndSpec

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SIZE = (960, 436)
MAX_ROWS = 128  # of the spectrogram; more bands than this are averaged
MAX_COLUMNS = 600
N_SHADES = 48
MIN_RANGE_DB = 20.0
WHITE, BLACK, GREY, PALE = "#ffffff", "#1a1a1a", "#777777", "#dddddd"
MORE, LESS = "#c8371f", "#1f6fc8"
COLOURS = np.array([[13, 8, 60], [90, 20, 120], [200, 60, 90], [250, 160, 60], [252, 250, 200]], np.float64)


@dataclass(frozen=True, kw_only=True)
class PictureReference:
    """The scales of the picture, and the expected spectrum of the machine."""

    front_end: FrontEndSpec
    tick_frames: int
    segment_ticks: int
    expected: Reference | None


@dataclass(frozen=True)
class _Panel:
    """A part of the picture, with the values at its edges. Pixel coordinates grow downwards, values grow upwards."""

    left: int
    top: int
    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + self.width * (min(max(value, low), high) - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.top + self.height * (1.0 - (min(max(value, low), high) - low) / (high - low))

    @property
    def box(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.left + self.width, self.top + self.height


def draw(clip: EventClip, reference: PictureReference, *, column_s: float = 0.0, max_bytes: int) -> bytes:
    """Draw the picture as a PNG of at most `max_bytes`, with columns that are at least `column_s` wide."""
    frames = _frames(clip, reference)
    n_columns = min(len(frames), MAX_COLUMNS)
    if column_s:
        n_columns = min(n_columns, int((clip.stop - clip.start) / clip.rate_hz / column_s))
    while True:
        png = _draw(clip, reference, frames, n_columns)
        if len(png) <= max_bytes or n_columns == 0:
            return png
        n_columns //= 2


def _frames(clip: EventClip, reference: PictureReference) -> F32:
    """The frames (m, n_bands), dB, of the clip, as the pipeline computes them."""
    spec = reference.front_end
    samples, n = clip.samples(), reference.tick_frames * spec.hop_length
    blocks = (Block(start, samples[start : start + n]) for start in range(0, len(samples), n))
    parts = list(stream_frames(blocks, spec, tick_frames=reference.tick_frames))
    return np.concatenate(parts) if parts else np.empty((0, spec.n_bands), np.float32)


def _draw(clip: EventClip, reference: PictureReference, frames: F32, n_columns: int) -> bytes:
    from PIL import Image, ImageDraw, ImageFont  # imported late, to save memory while there are no events

    image = Image.new("RGB", SIZE, WHITE)
    pen = ImageDraw.Draw(image)
    pen.font = ImageFont.load_default(size=12)
    seconds = ((clip.start - clip.onset) / clip.rate_hz, (clip.stop - clip.onset) / clip.rate_hz)
    bands = (0.0, float(reference.front_end.n_bands))
    sound = _Panel(56, 56, MAX_COLUMNS, 256, seconds, bands)
    _title(pen, clip)
    if n_columns:
        pixels = Image.fromarray(_shades(frames, n_columns))
        image.paste(pixels.resize((sound.width, sound.height), Image.Resampling.NEAREST), (sound.left, sound.top))
    top = float(np.log10(1.2 * max([2.5, *_ratios(clip)])))
    _frequencies(pen, sound, reference.front_end.band_limits_hz())
    _score(pen, clip, _Panel(sound.left, 336, sound.width, 70, seconds, (-0.5, top)))
    if len(frames):
        _spectra(pen, sound, _raising_frame(clip, reference, frames), reference.expected)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _shades(frames: F32, n_columns: int) -> np.typing.NDArray[np.uint8]:
    """Colours (rows, n_columns, 3), the highest band first, from quiet (dark) to loud."""
    n_rows = min(MAX_ROWS, frames.shape[1])
    levels = _averaged(_averaged(frames.astype(np.float64), n_columns).T, n_rows)[::-1]
    low, high = np.percentile(levels, [2.0, 99.8])
    shade = np.rint(np.clip((levels - low) / max(high - low, MIN_RANGE_DB), 0.0, 1.0) * N_SHADES) / N_SHADES
    at = np.linspace(0.0, 1.0, len(COLOURS))
    return np.stack([np.interp(shade, at, channel) for channel in COLOURS.T], axis=-1).astype(np.uint8)


def _averaged(rows: F64, n: int) -> F64:
    """Average rows (m, k) over n groups of consecutive rows, giving (n, k); n <= m."""
    edges = np.linspace(0, len(rows), n + 1).astype(int)
    sums = np.add.reduceat(rows, edges[:-1], axis=0)
    return np.asarray(sums / np.diff(edges)[:, np.newaxis])


def _raising_frame(clip: EventClip, reference: PictureReference, frames: F32) -> F64:
    """The mean frame (n_bands,), dB, of the segment that raised the event. The event's first message describes it."""
    last = max(1, min(len(frames), (clip.raised - clip.start) // reference.front_end.hop_length))
    first = max(0, last - reference.segment_ticks * reference.tick_frames)
    return np.asarray(frames[first:last].mean(axis=0, dtype=np.float64))


def _title(pen: "ImageDraw", clip: EventClip) -> None:
    event = clip.event
    at = rfc3339(event.onset_ts).replace("T", " ")
    peak_ratio = max([event.peak_ratio, *(_ratios(clip) if event.raised_by == "segments" else [])])
    pen.text((8, 5), f"{event.machine}   {event.severity}   since {at}   {ratio_text(peak_ratio, event.raised_by)}", fill=BLACK)
    pen.text((8, 22), event.summary[:150], fill=BLACK)


def _frequencies(pen: "ImageDraw", panel: _Panel, limits_hz: F64) -> None:
    """Label some of the band limits (n_bands + 1,), Hz."""
    for i in np.linspace(0, len(limits_hz) - 1, 9).astype(int):
        y = panel.y(float(i))
        pen.line([(panel.left - 4, y), (panel.left, y)], fill=GREY)
        _text(pen, panel.left - 7, y, f"{limits_hz[i]:.0f}" if limits_hz[i] < 1000 else f"{limits_hz[i] / 1000:.1f}k", "rm")
    _text(pen, panel.left - 7, panel.top - 10, "Hz", "rm")
    pen.rectangle(panel.box, outline=GREY)


def _ratios(clip: EventClip) -> list[float]:
    return [ratio for stop, ratio in clip.ratios if ratio is not None and stop <= clip.stop]


def _score(pen: "ImageDraw", clip: EventClip, panel: _Panel) -> None:
    """Draw the ratio over time on a logarithmic scale. The line is broken where there is no ratio."""
    pen.rectangle(panel.box, outline=GREY)
    threshold = panel.y(0.0)
    pen.line([(panel.left, threshold), (panel.left + panel.width, threshold)], fill=MORE)
    _text(pen, panel.left - 7, threshold, "1", "rm")
    _text(pen, panel.left - 7, panel.top, f"{10 ** panel.y_range[1]:.3g}", "rm")
    _text(pen, panel.left + 4, panel.top + 8, "score / threshold", "lm")
    points: list[tuple[float, float]] = []
    for stop, ratio in (*clip.ratios, (clip.stop, None)):
        if ratio is not None and stop <= clip.stop:
            height = float(np.log10(max(ratio, 1e-3)))
            points.append((panel.x((stop - clip.onset) / clip.rate_hz), panel.y(height)))
            continue
        if points:
            pen.line(points, fill=BLACK, width=2)
        points = []
    if panel.x_range[0] <= 0.0 <= panel.x_range[1]:
        onset = panel.x(0.0)
        pen.line([(onset, panel.top), (onset, panel.top + panel.height)], fill=GREY)
    span_s = panel.x_range[1] - panel.x_range[0]
    step_s = next((step for step in (1, 2, 5, 10, 20) if span_s / step <= 10), 60)
    for second in range(int(np.ceil(panel.x_range[0] / step_s)) * step_s, int(panel.x_range[1]) + 1, step_s):
        _text(pen, panel.x(second), panel.top + panel.height + 10, f"{second:+d} s" if second else "onset", "mm")


def _spectra(pen: "ImageDraw", beside: _Panel, measured: F64, expected: Reference | None) -> None:
    """Draw the measured and expected mean spectra and the excess, with each band at its height in the spectrogram."""
    both = measured if expected is None else np.concatenate((measured, expected.mean_db))
    range_db = (float(both.min()) - 3.0, float(both.max()) + 3.0)
    left = _Panel(beside.left + beside.width + 24, beside.top, 120, beside.height, range_db, beside.y_range)
    bands = np.arange(len(measured)) + 0.5
    pen.rectangle(left.box, outline=GREY)
    _limits(pen, left)
    if expected is not None:
        for sign in (-1.0, 1.0):
            limit = expected.mean_db + sign * expected.spread_db
            pen.line([(left.x(x), left.y(y)) for x, y in zip(limit, bands, strict=True)], fill=PALE)
        pen.line([(left.x(x), left.y(y)) for x, y in zip(expected.mean_db, bands, strict=True)], fill=GREY, width=2)
        _text(pen, left.left, left.top - 20, "expected", "lm", GREY)
        _excess(pen, left, measured - expected.mean_db)
    pen.line([(left.x(x), left.y(y)) for x, y in zip(measured, bands, strict=True)], fill=MORE, width=2)
    _text(pen, left.left, left.top - 7, "measured", "lm", MORE)


def _excess(pen: "ImageDraw", beside: _Panel, excess: F64) -> None:
    max_db = max(6.0, float(np.abs(excess).max()))
    right = _Panel(beside.left + beside.width + 24, beside.top, 110, beside.height, (-max_db, max_db), beside.y_range)
    for band, value in enumerate(excess):
        x = sorted((right.x(0.0), right.x(value)))
        pen.rectangle((x[0], right.y(band + 0.9), x[1], right.y(band + 0.1)), fill=MORE if value > 0 else LESS)
    pen.rectangle(right.box, outline=GREY)
    pen.line([(right.x(0.0), right.top), (right.x(0.0), right.top + right.height)], fill=GREY)
    _text(pen, right.left, right.top - 7, "excess", "lm")
    _limits(pen, right)


def _limits(pen: "ImageDraw", panel: _Panel) -> None:
    """Label the levels at the left and right edges."""
    for value, x, anchor in zip(panel.x_range, (panel.left, panel.left + panel.width), ("lm", "rm"), strict=True):
        _text(pen, x, panel.top + panel.height + 10, f"{value:.0f} dB", anchor)


def _text(pen: "ImageDraw", x: float, y: float, text: str, anchor: str, colour: Any = BLACK) -> None:
    pen.text((x, y), text, fill=colour, anchor=anchor)
