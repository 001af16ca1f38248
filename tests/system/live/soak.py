"""Days in minutes: the daemon itself in this process, at full speed, on a made clock and a made device.

    python -m tests.system.live.soak MONITOR.YAML SOUNDS HOURS

Microphone, ring, tap, pipeline, supervisor, courier and broker are the real ones. Made are the capture process, which writes
the folder's sounds into its ring as `CYCLE` says, and the module `time` where sound and machines are dealt with. Prints a
line of JSON after each cycle. The microphone `name:stutters` has an overrun every 9 seconds besides.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from monitor.audio.capture import Request
from monitor.audio.devices import Device
from monitor.audio.ring import Ring, SoundFormat
from monitor.daemon.daemon import run_daemon

RATE_HZ = 16000
SLOT_S = 0.05  # what a device delivers at once
OVERRUN_EVERY = 180  # slots
CYCLE_S = 1200
CYCLE = (  # until when, s, and what is heard; None: nothing arrives
    (360, "normal"),
    (480, "fault"),
    (660, "normal"),
    (690, "silence"),
    (780, "normal"),
    (800, None),  # long enough for the capture to be given up
    (900, "normal"),
    (900.5, None),  # an overrun
    (960, "normal"),
    (1005, "fault"),
    (1095, "silence"),  # long enough for the anomaly to be lost
    (CYCLE_S, "normal"),
)
FAULTS_AT_S = tuple(before for (before, _), (_, sound) in pairwise(CYCLE) if sound == "fault")


class Devices:
    """What each device delivers in each slot of time."""

    def __init__(self, sounds: Path) -> None:
        self._slots = {name: _slots(sounds / f"{name}.flac") for name in ("normal", "fault")}
        self._slots["silence"] = [bytes(len(self._slots["normal"][0]))]

    def delivers(self, selector: str, slot: int) -> bytes | None:
        at_s = slot * SLOT_S % CYCLE_S
        name = next(name for until_s, name in CYCLE if at_s < until_s)
        if name is None or (selector == "name:stutters" and slot % OVERRUN_EVERY == 0):
            return None
        return self._slots[name][slot % len(self._slots[name])]


def _slots(path: Path) -> list[bytes]:
    samples, _ = soundfile.read(path, dtype="int32")
    return [bytes(part) for part in np.split(samples, round(len(samples) / RATE_HZ / SLOT_S))]


class MadeCapture:
    """In place of a CaptureProcess."""

    def __init__(self) -> None:
        self._told = self._overrun = self.killed = False

    def request(self, request: Request) -> None:
        self.selector = request.selector
        self._ring = Ring.create(SoundFormat(RATE_HZ, 1, "int32"), round(request.ring_s * RATE_HZ))

    def opened(self) -> tuple[Device, Ring] | None:
        if self._told:
            return None
        self._told = True
        device = Device(0, self.selector, "made", 1, RATE_HZ, (), False, None, self.selector)
        return device, Ring.attach(os.dup(self._ring.fd))

    def deliver(self, data: bytes | None, time_ns: int) -> None:
        if data is not None:
            self._ring.write(memoryview(data), time_ns=time_ns, overrun=self._overrun)
        self._overrun = data is None

    def kill(self) -> None:
        self.killed = True
        self._ring.close()

    def is_gone(self) -> bool:
        return True

    def wait(self, timeout_s: float) -> None:
        pass


@dataclass
class MadeTime:
    """In place of the module `time`: it passes only while the daemon sleeps, and then in no time, sound included."""

    devices: Devices
    until_s: float
    began_utc_s: float
    now_s: float = 0.0
    n_slots: int = 0
    captures: list[MadeCapture] = field(default_factory=list)

    def __call__(self) -> MadeCapture:
        """Launch a capture process."""
        self.captures.append(MadeCapture())
        return self.captures[-1]

    def discard(self) -> None:
        """Nothing is launched ahead."""

    def monotonic(self) -> float:
        return self.now_s

    def monotonic_ns(self) -> int:
        return round(self.now_s * 1e9)

    def time(self) -> float:
        return self.began_utc_s + self.now_s

    def wake(self) -> None:
        """It never waits."""

    async def wait(self, seconds: float) -> None:
        cycle = self.now_s // CYCLE_S
        self.now_s += seconds
        self.captures = [capture for capture in self.captures if not capture.killed]
        while (self.n_slots + 1) * SLOT_S <= self.now_s:
            for capture in self.captures:
                time_ns = round((self.n_slots + 1) * SLOT_S * 1e9)
                capture.deliver(self.devices.delivers(capture.selector, self.n_slots), time_ns)
            self.n_slots += 1
        if self.now_s // CYCLE_S > cycle:
            print(json.dumps(figures(self.now_s)), flush=True)
        if self.now_s >= self.until_s:
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0)


def figures(now_s: float) -> dict[str, float]:
    """How this process is."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    outbox = Path(os.environ["STATE_DIRECTORY"]).glob("outbox.sqlite*")
    return {
        "hours": round(now_s / 3600, 2),
        "resident_mb": int(status["VmRSS"].split()[0]) / 1024,
        "threads": int(status["Threads"]),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "outbox_mb": sum(file.stat().st_size for file in outbox) / 1e6,
    }


def soak(arguments: Sequence[str]) -> int:
    config, sounds, hours = arguments
    made = MadeTime(Devices(Path(sounds)), float(hours) * 3600 + 5.0, time.time())
    print(json.dumps({"began_utc_s": made.began_utc_s}), flush=True)
    replaced: dict[str, dict[str, object]] = {"monitor.daemon.daemon": {"WakeableTimer": lambda: made}}
    for name in list(sys.modules):
        if name.startswith(("monitor.daemon.", "monitor.audio.", "monitor.clips.", "monitor.clock")) and hasattr(
            sys.modules[name], "time"
        ):
            replaced.setdefault(name, {})["time"] = made
    for name, parts in replaced.items():
        vars(sys.modules[name]).update(parts)
    return run_daemon(Path(config), os.environ, made)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(soak(sys.argv[1:]))
