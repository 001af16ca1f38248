"""Score a machine's normal recordings again, in the order of their times, and store the scores by day as Parquet."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from monitor.bundle import Bundle, load_bundle
from monitor.bundle.budget import WORKSTATION
from monitor.errors import SourceError, printable
from monitor.events.pipeline import Result
from monitor.monitor import Monitor
from train.datasets import Clip, Dataset, RecordingOrder, of_channel, open_clip, recording_order
from train.datasets.sessions.times import natural
from train.fleet.places import COMPLETE, Store, indented_json
from train.fleet.summaries import Day

UNDATED = "undated"
SCHEMA = pa.schema(
    [
        ("time", pa.timestamp("ms", tz="UTC")),  # end of the scored segment; null without times
        ("recording", pa.string()),  # file below the folder of recordings
        ("end_s", pa.float64()),  # end of the scored segment in the file, s
        ("score", pa.float64()),  # null where nothing can be scored, such as in the first seconds
        ("ratio", pa.float64()),  # score / threshold
        ("state", pa.string()),
    ]
)
Row = tuple[datetime | None, str, float, float | None, float | None, str]


def write_scores(bundle_folder: Path, data: Dataset, out: Path, *, channel: int | None) -> list[Day]:
    """Write `out/DAY.parquet` for each day; returns the days with the medians of their scores, in order.

    A recording that cannot be read is left out, as training does. SourceError where there is none to score.
    """
    bundle = load_bundle(bundle_folder, budget=WORKSTATION)
    clips = of_channel([clip for clip in data.clips if clip.label == "normal"], channel)
    order = recording_order(data, clips)
    days: dict[str, list[Row]] = {}
    for clip, start in _in_order(data, clips, order, channel=channel):
        for row in _rows(bundle, data, clip, start, channel=channel):
            days.setdefault(UNDATED if row[0] is None else f"{row[0]:%Y-%m-%d}", []).append(row)
    if not days:
        raise SourceError(f"{data.root}: no normal recording can be scored")
    out.mkdir()
    for day, rows in days.items():
        columns = [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
        pq.write_table(pa.table(columns, schema=SCHEMA), out / f"{day}.parquet", compression="zstd")
    manifest = bundle.manifest
    tick_s = manifest.tick_frames * manifest.front_end.hop_length / manifest.front_end.sample_rate_hz
    return [_summary(day, rows, tick_s) for day, rows in sorted(days.items())]


def publish_scores(store: Store, folder: Path, name: str, summary: Mapping[str, Any]) -> None:
    """Replace the scores of a machine; `complete.json` is removed first and written last."""
    store.remove(f"{name}/{COMPLETE}")
    days = sorted(path.name for path in folder.iterdir())
    for day in days:
        store.write(f"{name}/{day}", (folder / day).read_bytes())
    for old in store.names(name):
        if old.endswith(".parquet") and old not in days:
            store.remove(f"{name}/{old}")
    store.write(f"{name}/{COMPLETE}", indented_json(summary))


def _in_order(
    data: Dataset, clips: tuple[Clip, ...], order: RecordingOrder, *, channel: int | None
) -> Iterator[tuple[Clip, datetime | None]]:
    """The clips with the times at which they start. Files of one recording are cuts that follow each other, or channels."""
    by_recording: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: natural(data.relative(clip))):
        by_recording.setdefault(clip.recording, []).append(clip)
    for recording in order.recordings:
        start = None if order.times is None else order.times[recording]
        if start is not None and order.source == "file times":  # those are of the last write
            start -= _length(by_recording[recording][0], channel=channel)
        for clip in by_recording[recording]:
            yield clip, start
            if start is not None and data.layout == "plain":
                start += _length(clip, channel=channel)


def _length(clip: Clip, *, channel: int | None) -> timedelta:
    """The length of a recording; 0 if it cannot be read, and so is left out."""
    try:
        return timedelta(seconds=open_clip(clip, sample_rate_hz=1, channel=channel).duration_s or 0.0)
    except SourceError:
        return timedelta()


def _rows(bundle: Bundle, data: Dataset, clip: Clip, start: datetime | None, *, channel: int | None) -> list[Row]:
    """A row for each tick of a recording, which is a stream of its own."""
    monitor = Monitor(bundle)
    name, rate_hz = printable(data.relative(clip)), monitor.sample_rate_hz

    def row(result: Result) -> Row:
        end_s = result.tick.stop / rate_hz
        time = None if start is None else start + timedelta(seconds=end_s)
        return time, name, end_s, result.tick.score, result.ratio, result.state

    try:
        recording = open_clip(clip, sample_rate_hz=rate_hz, channel=channel)
        monitor.source_rate_hz = recording.rate_hz
        rows = [row(result) for block in recording.blocks() for result in monitor.push(block)]
    except SourceError:
        return []
    return rows + [row(result) for result in monitor.flush()]


def _summary(day: str, rows: list[Row], tick_s: float) -> Day:
    ratios = [row[4] for row in rows if row[4] is not None]
    scores = [row[3] for row in rows if row[3] is not None]
    return Day(
        day=day,
        hours=round(len(rows) * tick_s / 3600, 5),
        median_score=float(np.median(scores)) if scores else None,
        median_ratio=round(float(np.median(ratios)), 4) if ratios else None,
    )
