"""A machine: sound that never fills a tick, and a construction that fails."""

import math
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import cycle
from pathlib import Path
from unittest.mock import Mock

import pytest
import soundfile

from monitor.audio.gaps import UnbrokenSound
from monitor.audio.microphone import Microphone, Trouble
from monitor.audio.ring import SoundFormat
from monitor.bundle import Bundle, load_bundle
from monitor.clips.service import ClipService
from monitor.clock import SteadyClock
from monitor.config import ClipsConfig, MachineConfig
from monitor.daemon import machine as machine_module
from monitor.daemon.alarm import Alarm
from monitor.daemon.assembly import make_clip_recorder
from monitor.daemon.machine import Machine, MachineSpec
from tests.daemon.test_failures import Outlet

RATE_HZ = 16_000
STEP = RATE_HZ // 10


@pytest.fixture
def bundle(demo_bundle: Path) -> Bundle:
    return load_bundle(demo_bundle)


def machine_of(bundle: Bundle, microphone: Microphone, outlet: Outlet) -> Machine:
    return Machine(
        "fan",
        MachineSpec.of(MachineConfig(bundle=Path("demo-fan")), bundle, rate_hz=RATE_HZ),
        bundle,
        microphone,
        outlet,
        node="pi",
        alarm=Alarm(),
        clock=SteadyClock(),
        recorder=make_clip_recorder(bundle, ClipService(None, run=lambda job: job(), present=None), ClipsConfig()),
    )


class Player:
    """A machine that gets the sound of a recording, by a clock that the test sets."""

    def __init__(self, bundle: Bundle, recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        samples, _ = soundfile.read(recording, dtype="int32")
        starts = range(0, len(samples) // STEP * STEP, STEP)
        self._sound: Iterator[bytes] = cycle(samples[start : start + STEP].astype("<i4").tobytes() for start in starts)
        self._frame = 0
        self._origin_s = self.now
        self.outlet = Outlet()
        microphone = Microphone("usb-port:99-9", wanted_rate_hz=RATE_HZ)
        self.machine = machine_of(bundle, microphone, self.outlet)
        (self._reader,) = microphone._readers
        self._reader.open(SoundFormat(RATE_HZ, 1, "int32"))

    def play(self, seconds: float, *, gap_every_s: float = float("inf")) -> None:
        """Poll ten times a second. Each gap is one sample."""
        gap_at = self.now + gap_every_s
        for _ in range(round(10 * seconds)):
            self.now += 0.1
            begins = self.now >= gap_at
            if begins:
                gap_at, self._origin_s = self.now + gap_every_s, self._origin_s + 1 / RATE_HZ
            self._reader.push(
                UnbrokenSound(self._frame, STEP, next(self._sound), self._origin_s, self.now, begins or not self._frame)
            )
            self._frame += STEP
            self.machine.poll()
            assert self.machine.stalled_s() == 0.0

    def state(self) -> tuple[str, str | None]:
        assert self.machine.last is not None
        return self.machine.last.state, self.machine.last.reason


def test_sound_with_a_gap_in_every_tick_is_unknown_and_no_stall(
    bundle: Bundle, demo_normal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(bundle, demo_normal, monkeypatch)
    player.play(30)
    assert player.state() == ("normal", None)
    player.play(4, gap_every_s=0.5)
    assert player.state() == ("normal", None)
    player.play(36, gap_every_s=0.5)
    assert player.state() == ("unknown", "gap")
    assert '"state": "unknown", "reason": "gap"' in player.outlet.last["fan/state"]
    assert player.outlet.last["fan/availability"] == "online"
    player.play(20)
    assert player.state()[0] != "unknown"  # it is scored again


def test_a_stream_without_gaps_that_fills_no_tick_is_a_stall(
    bundle: Bundle, demo_normal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(bundle, demo_normal, monkeypatch)
    player.play(10)
    player.now += machine_module.STALLED_AFTER_S + 1.0
    player.machine.poll()
    assert player.machine.stalled_s() > machine_module.STALLED_AFTER_S


def test_the_next_tick_is_full_when_the_machine_expects_it_and_without_sound_none_is_expected(
    bundle: Bundle, demo_normal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = Player(bundle, demo_normal, monkeypatch)
    player.play(5)
    n_ticks = 0
    for _ in range(50):
        due_s, scored_s = player.machine.tick_due_s, player.machine.scored_s
        player.play(0.1)
        is_scored = player.machine.scored_s > scored_s
        assert is_scored == (due_s < player.now + 0.01)
        n_ticks += is_scored
    assert n_ticks == 5
    player.machine.microphone.trouble = Trouble("lost", "unplugged", datetime.now(timezone.utc))
    player.machine.poll()
    assert player.machine.tick_due_s == math.inf


def test_a_machine_that_cannot_be_built_leaves_no_reader(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    microphone = Microphone("usb-port:99-9", wanted_rate_hz=RATE_HZ)
    monkeypatch.setattr(machine_module, "Monitor", Mock(side_effect=MemoryError))
    for _ in range(3):
        with pytest.raises(MemoryError):
            machine_of(bundle, microphone, Outlet())
    microphone.poll()
    assert microphone._readers == []
    microphone.close()
