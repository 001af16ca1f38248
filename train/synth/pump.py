"""A centrifugal pump: vane-pass tones, a motor's hum, and the noise of a flow whose demand changes from hour to hour.

Source: ISO 20816-7 and J. F. Guelich, Centrifugal Pumps (2014), chapter 10: tones at multiples of speed times vanes, and
broadband noise that rises steeply away from the best flow.
"""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64
from train.synth.machine import MachineSound
from train.synth.noise import StreamFilter, rng, spectral_shape

SLIP = 0.02  # of the speed between no load and full load


@dataclass(frozen=True)
class Pump:
    """One individual pump; every recording has a different flow."""

    seed: int
    sample_rate_hz: int = 16000
    shaft_hz: float = 48.7
    n_blades: int = 5

    def flow(self, take: int) -> float:
        """Flow relative to the best one."""
        return float(rng(self.seed, "flow", take).uniform(0.6, 1.2))

    def shaft_phase(self, t: F64, take: int) -> F64:
        """The angle of a motor that slips with the load."""
        return 2 * np.pi * self.shaft_hz * (1.0 - SLIP * (self.flow(take) - 1.0)) * t

    def sound(self, take: int) -> MachineSound:
        """The sound of this recording."""
        return _PumpSound(self, take)


class _PumpSound:
    def __init__(self, pump: Pump, take: int) -> None:
        draw = rng(pump.seed, "pump")
        off_db = 40.0 * (pump.flow(take) - 1.0) ** 2  # how far the noise rises away from the best flow
        self._orders = np.concatenate(((1, 2, 3), pump.n_blades * np.arange(1, 6)))
        level_db = np.array([-32.0, -38.0, -42.0, -20.0, -26.0, -31.0, -37.0, -44.0]) + draw.normal(0.0, 2.0, 8)
        level_db[3:] += 0.5 * off_db
        self._amplitudes = 10.0 ** (level_db / 20.0)
        self._phases = draw.uniform(0.0, 2 * np.pi, 8)
        hiss = spectral_shape({80: -6, 400: 0, 1500: -4, 5000: -12, 8000: -22}, sample_rate_hz=pump.sample_rate_hz)
        self._hiss = StreamFilter(0.05 * 10.0 ** (off_db / 20.0) * hiss)
        self._pump, self._take = pump, take

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        tones = sum(a * np.cos(k * shaft + p) for k, a, p in zip(self._orders, self._amplitudes, self._phases, strict=True))
        noise = rng(self._pump.seed, "hiss", self._take, index).standard_normal(len(t))
        hum = 0.02 * np.cos(2 * np.pi * 100.0 * t)
        return np.asarray(tones + hum + self._hiss.push(noise) * (1.0 + 0.1 * np.cos(self._pump.n_blades * shaft)))
