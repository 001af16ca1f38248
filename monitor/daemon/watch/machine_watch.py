"""What clients see of one machine: its description, its state after every tick, and its frames."""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from monitor.arrays import F32
from monitor.bundle import Bundle
from monitor.config import MachineConfig
from monitor.daemon.guard import Guard
from monitor.daemon.watch.watchers import Watchers
from monitor.events.event import EventClock, rfc3339
from monitor.events.pipeline import Result
from monitor.history.history import History
from monitor.mqtt.messages import StateMessage
from monitor.scoring.features import TickFrames

FRAMES_EVERY_S = 0.25
BELOW_DB, ABOVE_DB = 15.0, 25.0  # how far the range of levels extends beyond the expected spectrum
FULL_RANGE_DB = (-100.0, 40.0)  # for a bundle without an expected spectrum
Range = tuple[float, float]


def machine_data(settings: MachineConfig, bundle: Bundle | None) -> dict[str, Any]:
    """The data of the line `machine`. Without a bundle, everything that comes from it is null."""
    about: dict[str, Any] = {"name": settings.name, "microphone": settings.microphone, "channel": settings.channel}
    about |= {"enabled": settings.enabled, "learned": bundle is not None and not bundle.is_base}
    if bundle is None:
        keys = ("bundle", "adapted", "threshold", "alarm_ratio", "rate_hz", "bands_hz", "tick_s", "frame_s", "expected_db")
        return {**about, **dict.fromkeys((*keys, "range_db"))}
    manifest, expected = bundle.manifest, bundle.expected
    calibration, front_end, adapted = manifest.calibration, manifest.front_end, manifest.provenance.adapted
    alarm = calibration.alarm_threshold
    return {
        **about,
        "bundle": bundle.id,
        "adapted": None if adapted is None else adapted.by,
        "threshold": None if bundle.is_base else calibration.threshold,
        "alarm_ratio": None if bundle.is_base else 1.0 if alarm is None else round(alarm / calibration.threshold, 4),
        "rate_hz": front_end.sample_rate_hz,
        "bands_hz": np.round(front_end.band_limits_hz(), 1).tolist(),
        "tick_s": manifest.scorer_spec.tick_s,
        "frame_s": front_end.hop_length / front_end.sample_rate_hz,
        "expected_db": None if expected is None else np.round(expected.mean_db.astype(np.float64), 2).tolist(),
        "range_db": _range_db(bundle),
    }


class MachineWatch:
    """Passes the ticks of one running machine to the clients and the history. An error in it never affects the machine."""

    def __init__(
        self, machine: str, bundle: Bundle, timeline: EventClock, *, watchers: Watchers, history: History, guard: Guard
    ) -> None:
        self._machine = machine
        self._range_db = _range_db(bundle)
        self._timeline = timeline
        self._watchers = watchers
        self._history = history
        self._guard = guard
        self._frames: list[F32] = []
        self._begins = 0  # sample at which the frames of the next line begin
        self._stop = 0  # sample at which the last line ended

    def state(self, message: StateMessage) -> None:
        """Send the state after a tick."""
        self._guard.run("watch: state", lambda: self._watchers.publish_state(self._machine, message))

    def push(self, tick: TickFrames | None, result: Result) -> None:
        """Receive a tick with its result; without sound there is no tick."""
        self._guard.run("history: tick", lambda: self._store(result))
        self._guard.run("watch: frames", lambda: self._push(tick, result))

    def _store(self, result: Result) -> None:
        at = self._timeline.at(result.tick.stop).timestamp()
        level = result.tick.rms_dbfs
        self._history.push(self._machine, at, ratio=result.ratio, rms_dbfs=level, state=result.state)

    def _push(self, tick: TickFrames | None, result: Result) -> None:
        if tick is None:
            self._frames = []
            return
        if not self._frames:
            self._begins = tick.start
        if tick.frames is not None:
            self._frames.append(tick.frames[: tick.n_frames])
        if tick.stop - self._begins < FRAMES_EVERY_S * self._timeline.sample_rate_hz:
            return
        frames, self._frames = self._frames, []
        data = {
            "t": rfc3339(self._timeline.at(tick.stop)),
            "ratio": None if result.ratio is None else round(result.ratio, 4),
            "rms_dbfs": None if result.tick.rms_dbfs is None else round(result.tick.rms_dbfs, 1),
            "n": sum(map(len, frames)),
            "levels": encode_levels(frames, self._range_db),
        }
        self._watchers.publish_frames(self._machine, data, follows=self._begins == self._stop)
        self._stop = tick.stop


def encode_levels(frames: Sequence[F32], range_db: Range) -> str:
    """Frames (n, n_bands), dB, as base64 of bytes: 0 is the lower end of the range, 255 the upper one."""
    low, high = range_db
    steps = [np.clip(np.rint((part - low) * (255.0 / (high - low))), 0, 255).astype(np.uint8) for part in frames]
    return base64.b64encode(b"".join(part.tobytes() for part in steps)).decode()


def _range_db(bundle: Bundle) -> Range:
    """The fixed range of levels in which frames are sent and drawn."""
    if bundle.expected is None:
        return FULL_RANGE_DB
    mean_db = bundle.expected.mean_db
    return math.floor(float(mean_db.min()) - BELOW_DB), math.ceil(float(mean_db.max()) + ABOVE_DB)
