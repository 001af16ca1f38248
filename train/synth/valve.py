"""A solenoid valve that opens and closes: two different knocks per cycle, a puff of air between them, near silence after.

Source: H. Purohit et al., MIMII Dataset (2019): solenoid valves with opening and closing repeated on a schedule.
"""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64
from train.synth.machine import MachineSound
from train.synth.noise import StreamFilter, ringing, rng, spectral_shape

OPEN = 0.3  # of a cycle


@dataclass(frozen=True)
class Valve:
    """One individual valve; `shaft_hz` is its cycles per second; a turn is a cycle."""

    seed: int
    sample_rate_hz: int = 16000
    shaft_hz: float = 0.83
    n_blades: int = 2  # knocks per cycle

    def shaft_phase(self, t: F64, take: int) -> F64:
        """The phase in the schedule; every recording starts at a different one."""
        return 2 * np.pi * (self.shaft_hz * t + rng(self.seed, "schedule", take).random())

    def sound(self, take: int) -> MachineSound:
        """The sound of this recording."""
        return _ValveSound(self, take)


class _ValveSound:
    def __init__(self, valve: Valve, take: int) -> None:
        rate_hz = valve.sample_rate_hz
        opens = ringing({900.0: 0.5, 2300.0: 1.0, 4100.0: 0.6}, decay_s=0.008, sample_rate_hz=rate_hz)
        closes = ringing({700.0: 1.0, 1800.0: 0.6, 3300.0: 0.3}, decay_s=0.012, sample_rate_hz=rate_hz)
        self._knocks = ((0.0, StreamFilter(0.6 * opens)), (OPEN, StreamFilter(0.45 * closes)))
        puff = spectral_shape({300: -30, 1500: -6, 3500: 0, 8000: -8}, sample_rate_hz=rate_hz)
        self._puff = StreamFilter(0.012 * puff)
        self._valve, self._take = valve, take

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        draw = rng(self._valve.seed, "valve", self._take, index)
        cycle = shaft / (2 * np.pi)
        sound = np.zeros(len(t))
        for at, ring in self._knocks:
            count = np.floor(cycle - at)
            knocks = np.diff(count, prepend=count[0]) * draw.lognormal(0.0, 0.15, len(t))
            sound += ring.push(knocks)
        is_open = (cycle % 1.0) < OPEN
        return sound + self._puff.push(is_open * draw.standard_normal(len(t)))
