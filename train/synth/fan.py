"""A fan: shaft and blade-pass harmonics on a slowly drifting shaft, and flow noise that the blades modulate.

Sources: W. Neise, Review of noise reduction methods for centrifugal fans, 1982 (tones at multiples of the blade-pass
frequency over broadband flow noise that falls with frequency); ISO 13373-1 for the shaft harmonics of rotating machines.
"""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F64
from train.synth.machine import MachineSound
from train.synth.noise import StreamFilter, rng, spectral_shape


@dataclass(frozen=True)
class Fan:
    """One individual fan; `seed` makes it that individual."""

    seed: int
    sample_rate_hz: int = 16000
    shaft_hz: float = 24.3
    n_blades: int = 7
    drift: float = 0.004  # of the speed, peak

    def shaft_phase(self, t: F64, take: int) -> F64:
        """The shaft's angle, radians, at times t (n,), s: the integral of a speed that drifts with the load."""
        draw = rng(self.seed, "drift", take)
        periods_s = (11.0, 37.0, 173.0)
        phase = 2 * np.pi * self.shaft_hz * t
        for period_s, start in zip(periods_s, draw.uniform(0, 2 * np.pi, len(periods_s)), strict=True):
            slow = 2 * np.pi / period_s
            phase += 2 * np.pi * self.shaft_hz * self.drift / len(periods_s) / slow * (1 - np.cos(slow * t + start))
        return phase

    def sound(self, take: int) -> MachineSound:
        """The sound of this recording."""
        return _FanSound(self, take)


class _FanSound:
    def __init__(self, fan: Fan, take: int) -> None:
        draw = rng(fan.seed, "fan")
        n_shaft, n_blade = 6, 6
        self._orders = np.concatenate((np.arange(1, n_shaft + 1), fan.n_blades * np.arange(1, n_blade + 1)))
        level_db = np.concatenate((-30.0 - 3.0 * np.arange(n_shaft), -22.0 - 5.0 * np.arange(n_blade)))
        level_db += draw.normal(0.0, 2.0, len(level_db))
        self._amplitudes = 10.0 ** (level_db / 20.0)
        self._phases = draw.uniform(0.0, 2 * np.pi, len(level_db))
        self._fan, self._take = fan, take
        slope = spectral_shape({50: 3, 200: 0, 1000: -8, 4000: -20, 8000: -30}, sample_rate_hz=fan.sample_rate_hz)
        self._flow = StreamFilter(0.08 * slope)

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        turn = np.exp(1j * shaft)
        tones = np.zeros(len(t))
        power, reached = np.ones(len(t), np.complex128), 0
        for order, amplitude, phase in zip(self._orders, self._amplitudes, self._phases, strict=True):
            for _ in range(order - reached):
                power *= turn
            reached = order
            tones += amplitude * (power * np.exp(1j * phase)).real
        noise = rng(self._fan.seed, "flow", self._take, index).standard_normal(len(t))
        blades = 1.0 + 0.2 * np.cos(self._fan.n_blades * shaft)
        return tones + blades * self._flow.push(noise)
