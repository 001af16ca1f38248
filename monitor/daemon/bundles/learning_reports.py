"""What is published about learning: the topic `learning`, and the lines of that kind for clients that watch."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from monitor.bundle import Bundle
from monitor.learning.learn import MIN_S
from monitor.learning.promise import promise_after
from monitor.mqtt.messages import LEARN_MINUTES, LearningMessage, PromiseMessage

EVERY_S = 10.0  # on MQTT; every change of the phase is published at once
MORE_MINUTES = (30.0, 120.0)  # promised if more sound is added
Publish = Callable[[str, LearningMessage | None], None]  # the machine, and the message; None: it is over


class LearningReports:
    """Knows what is being learned and what has not learned yet. All calls must come from the daemon's event loop."""

    def __init__(self, publish: Publish, show: Publish) -> None:
        """`publish` receives messages at the pace of MQTT, `show` every one."""
        self._publish = publish
        self._show = show
        self._segment_s: dict[str, float] = {}  # of the machines
        self._unlearned: dict[str, LearningMessage] = {}  # machines with a base bundle
        self._running: dict[str, LearningMessage] = {}
        self._shown: dict[str, LearningMessage | None] = {}
        self._published: dict[str, tuple[str | None, float]] = {}  # phase and time

    def apply_config(self, machines: Iterable[str], bundles: Mapping[str, Bundle], now: float) -> None:
        """Take note of all machines and of the bundles in use."""
        specs = {name: bundle.manifest.scorer_spec for name, bundle in bundles.items()}
        self._segment_s = {name: spec.segment_ticks * spec.tick_s for name, spec in specs.items()}
        self._unlearned = {name: self._message(name, "learn") for name, bundle in bundles.items() if bundle.is_base}
        for name in sorted({*machines, *self._shown}):
            self._update(name, now)

    def progress(self, machine: str, data: Mapping[str, Any] | None, now: float) -> None:
        """Report how far the running command is; None at its end. `data` are keys of the message."""
        self._running.pop(machine, None)
        if data is not None:
            self._running[machine] = self._message(machine, **data)
        self._update(machine, now)

    def of(self, machine: str) -> dict[str, Any] | None:
        """The latest message; None for a machine that has learned."""
        message = self._running.get(machine) or self._unlearned.get(machine)
        return None if message is None else message.model_dump(by_alias=True)

    def _update(self, machine: str, now: float) -> None:
        message = self._running.get(machine) or self._unlearned.get(machine)
        if machine in self._shown and message == self._shown[machine]:
            return  # the first time, a message of an earlier run is cleared
        self._shown[machine] = message
        self._show(machine, message)
        phase, at = self._published.get(machine, (None, -math.inf))
        if phase != (None if message is None else message.phase) or now - at >= EVERY_S:
            self._published[machine] = (None if message is None else message.phase, now)
            self._publish(machine, message)

    def _message(
        self,
        machine: str,
        command: Literal["learn", "calibrate"],
        *,
        phase: Literal["not_started", "recording", "computing"] = "not_started",
        done_s: float = 0.0,
        wanted_s: float = 60.0 * LEARN_MINUTES,
        resumed_s: float = 0.0,
        rms_dbfs: float | None = None,
        problem: str | None = None,
        n_unusable: int = 0,
        n_ticks: int = 0,
    ) -> LearningMessage:
        missing = f"{_rounded(wanted_s - done_s)} of normal sound are missing"
        words = {"not_started": f"not started: {missing}", "recording": missing, "computing": "the bundle is being computed"}
        lengths_s = () if command == "calibrate" else (done_s, wanted_s, *(60.0 * minutes for minutes in MORE_MINUTES))
        return LearningMessage(
            phase=phase,
            command=command,
            done_s=done_s,
            wanted_s=wanted_s,
            resumed_s=resumed_s,
            missing=words[phase],
            rms_dbfs=rms_dbfs,
            problem=problem,
            n_unusable=n_unusable,
            n_ticks=n_ticks,
            promises=[self._promise(machine, length_s) for length_s in sorted(set(lengths_s)) if length_s >= MIN_S],
        )

    def _promise(self, machine: str, length_s: float) -> PromiseMessage:
        promise = promise_after(length_s / 60.0, segment_s=self._segment_s.get(machine, 10.0))
        return PromiseMessage(**vars(promise), text=promise.text)


def _rounded(seconds: float) -> str:
    """A duration for people, rounded up."""
    return f"{math.ceil(seconds / 60)} minutes" if seconds > 60 else f"{math.ceil(seconds)} s"
