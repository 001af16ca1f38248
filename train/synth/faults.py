"""Faults that grow: the sound that each adds to a running machine at full severity, and its growth.

Sources: R. B. Randall, J. Antoni, Rolling element bearing diagnostics, MSSP 25 (2011): impulses at the defect rate, with
slip, each exciting a resonance, stronger in the load zone; ISO 13373-3 for imbalance, rubbing and looseness.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64
from train.synth.machine import Machine, MachineSound
from train.synth.noise import StreamFilter, ringing, rng, spectral_shape


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Severity over time: 0 until `start_s`, up to `severity` within `grow_s`, 0 again from `repaired_s`."""

    start_s: float = 0.0
    grow_s: float = 0.0
    repaired_s: float = np.inf
    severity: float = 1.0

    def at(self, t: F64) -> F64:
        """Severity (n,) at times t (n,), s."""
        ramp = np.clip((t - self.start_s) / max(self.grow_s, 1e-9), 0.0, 1.0)
        return np.where(t < self.repaired_s, self.severity * ramp, 0.0)


class _Knocks:
    """Knocks `rate` times per turn, each ringing; `slip` is the jitter as a fraction of the spacing."""

    def __init__(
        self, machine: Machine, take: int, *, rate: float, ring: F64, amplitude: float, slip: float, missing: float
    ) -> None:
        self._machine, self._take = machine, take
        self._rate, self._slip, self._missing = rate, slip, missing
        self._ring = StreamFilter(amplitude * ring)

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        draw = rng(self._machine.seed, "knocks", self._take, index)
        count = np.floor(self._rate * shaft / (2 * np.pi))
        at = np.flatnonzero(np.diff(count, prepend=count[0]) > 0)
        spacing = self._machine.sample_rate_hz / (self._rate * self._machine.shaft_hz)
        moved = at + np.rint(draw.normal(0.0, self._slip * spacing, len(at))).astype(int)
        load_zone = 0.6 + 0.4 * np.cos(shaft[at])
        strength = load_zone * draw.lognormal(0.0, 0.2, len(at)) * (draw.random(len(at)) >= self._missing)
        knocks = np.zeros(len(t))
        np.add.at(knocks, np.clip(moved, 0, len(t) - 1), strength)
        return self._ring.push(knocks)


class _Imbalance:
    """The once-a-turn tone and its double grow."""

    def __init__(self, machine: Machine, take: int) -> None:
        del machine, take

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        return 0.25 * np.cos(shaft) + 0.15 * np.cos(2 * shaft) + 0.1 * np.cos(3 * shaft)


class _Rubbing:
    """A scrape over a part of every turn: band noise, gated by the shaft's angle."""

    def __init__(self, machine: Machine, take: int) -> None:
        self._machine, self._take = machine, take
        shape = spectral_shape({300: -60, 1200: 0, 4500: 0, 7800: -30}, sample_rate_hz=machine.sample_rate_hz)
        self._band = StreamFilter(0.12 * shape)

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        noise = rng(self._machine.seed, "rubbing", self._take, index).standard_normal(len(t))
        touching = np.maximum(0.0, np.cos(shaft)) ** 4
        return touching * self._band.push(noise)


class _Blade:
    """One blade bends: the blade-pass tones are modulated once a turn, which shows as sidebands."""

    def __init__(self, machine: Machine, take: int) -> None:
        self._machine, self._take = machine, take
        slope = spectral_shape({50: 3, 200: 0, 1000: -6, 4000: -12, 8000: -24}, sample_rate_hz=machine.sample_rate_hz)
        self._wake = StreamFilter(0.12 * slope)

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        noise = rng(self._machine.seed, "blade", self._take, index).standard_normal(len(t))
        passes = np.exp(4.0 * (np.cos(shaft) - 1.0))  # the bent blade passes
        tones = sum(0.08 / k * np.cos(k * self._machine.n_blades * shaft) for k in range(1, 5))
        return passes * (tones + self._wake.push(noise))


class _Leak:
    """Air or steam escapes: steady hiss."""

    def __init__(self, machine: Machine, take: int) -> None:
        self._machine, self._take = machine, take
        shape = spectral_shape({500: -40, 2500: -6, 4500: 0, 8000: -6}, sample_rate_hz=machine.sample_rate_hz)
        self._hiss = StreamFilter(0.08 * shape)

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        return self._hiss.push(rng(self._machine.seed, "leak", self._take, index).standard_normal(len(t)))


class _Cavitation:
    """Bubbles collapse: sharp cracks at random, some tens per second, in swarms as each vane passes."""

    def __init__(self, machine: Machine, take: int) -> None:
        self._machine, self._take = machine, take
        crack = ringing({2600.0: 0.7, 4300.0: 1.0, 6100.0: 0.8}, decay_s=0.0008, sample_rate_hz=machine.sample_rate_hz)
        self._crack = StreamFilter(0.3 * crack)

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        draw = rng(self._machine.seed, "cavitation", self._take, index)
        swarm = np.exp(2.0 * (np.cos(self._machine.n_blades * shaft) - 1.0))
        cracks = draw.random(len(t)) < 150.0 / self._machine.sample_rate_hz * swarm
        return self._crack.push(cracks * draw.lognormal(0.0, 0.5, len(t)))


def _bearing(machine: Machine, take: int) -> MachineSound:
    ring = ringing({3100.0: 1.0, 5200.0: 0.5}, decay_s=0.0015, sample_rate_hz=machine.sample_rate_hz)
    return _Knocks(machine, take, rate=3.58, ring=ring, amplitude=0.35, slip=0.01, missing=0.0)


def _rattle(machine: Machine, take: int) -> MachineSound:
    ring = ringing({620.0: 1.0, 1370.0: 0.7, 2250.0: 0.4}, decay_s=0.006, sample_rate_hz=machine.sample_rate_hz)
    return _Knocks(machine, take, rate=1.0, ring=ring, amplitude=0.4, slip=0.15, missing=0.4)


FAULTS: dict[str, Callable[[Machine, int], MachineSound]] = {
    "bearing": _bearing,
    "imbalance": _Imbalance,
    "rubbing": _Rubbing,
    "rattle": _rattle,
    "blade": _Blade,
    "leak": _Leak,
    "cavitation": _Cavitation,
}
