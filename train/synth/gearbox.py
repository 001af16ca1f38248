"""A conveyor's gearbox under a schedule: it idles, runs slowly or runs fast and loaded, and changes over within a second.

Source: ISO 13373-1 and R. B. Randall, Vibration-based Condition Monitoring (2011), chapter 2: meshing tones with sidebands
at the shaft's rate that grow with the load.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.arrays import F64
from train.synth.machine import MachineSound
from train.synth.noise import StreamFilter, rng, spectral_shape

SLOT_S = 40.0  # that it stays in a state
CHANGE_S = 1.0
SPEEDS = np.array([0.35, 0.7, 1.0])  # of the nominal one: idle, slow, fast
LOADS_DB = np.array([-14.0, -6.0, 0.0])


@dataclass(frozen=True)
class Gearbox:
    """One individual gearbox; `n_blades` are the teeth of its wheel."""

    seed: int
    sample_rate_hz: int = 16000
    shaft_hz: float = 24.6
    n_blades: int = 27

    def states(self, until_s: float, take: int) -> tuple[F64, NDArray[np.intp]]:
        """The start (n,), s, of each state, the first before 0, and its number (n,)."""
        first = -SLOT_S * (1.0 + rng(self.seed, "first", take).random())
        n = int((until_s - first) // SLOT_S) + 1
        states = [int(rng(self.seed, "state", take, slot).integers(len(SPEEDS))) for slot in range(n)]
        return np.asarray(first + SLOT_S * np.arange(n), np.float64), np.array(states, np.intp)

    def follow(self, t: F64, take: int, of_state: F64) -> F64:
        """The value of the state at times t (n,), s, with ramps of `CHANGE_S` between states."""
        begins, states = self.states(t[-1], take)
        values = of_state[states]
        times = np.stack((begins[1:], begins[1:] + CHANGE_S), axis=1).ravel()
        corners = np.stack((values[:-1], values[1:]), axis=1).ravel()
        followed: F64 = np.interp(t, times, corners)
        return followed

    def shaft_phase(self, t: F64, take: int) -> F64:
        """The integral of the speed, exact for its straight ramps."""
        begins, states = self.states(t[-1], take)
        speeds = SPEEDS[states]
        times = np.concatenate(([begins[0]], np.stack((begins[1:], begins[1:] + CHANGE_S), axis=1).ravel()))
        corners = np.concatenate(([speeds[0]], np.stack((speeds[:-1], speeds[1:]), axis=1).ravel()))
        turned = np.concatenate(([0.0], np.cumsum(np.diff(times) * (corners[1:] + corners[:-1]) / 2)))
        before = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 1)
        since = t - times[before]
        now = np.interp(t, times, corners)
        phase: F64 = 2 * np.pi * self.shaft_hz * (turned[before] + since * (corners[before] + now) / 2)
        return phase

    def sound(self, take: int) -> MachineSound:
        """The sound of this recording."""
        return _GearboxSound(self, take)


class _GearboxSound:
    def __init__(self, gearbox: Gearbox, take: int) -> None:
        draw = rng(gearbox.seed, "gearbox")
        self._levels_db = np.array([-22.0, -27.0, -33.0]) + draw.normal(0.0, 2.0, 3)
        self._phases = draw.uniform(0.0, 2 * np.pi, 3)
        rumble = spectral_shape({40: 0, 150: -3, 600: -10, 2500: -22, 8000: -40}, sample_rate_hz=gearbox.sample_rate_hz)
        belt = spectral_shape({200: -30, 900: -3, 2200: 0, 4500: -10, 8000: -30}, sample_rate_hz=gearbox.sample_rate_hz)
        self._rumble, self._belt = StreamFilter(0.15 * rumble), StreamFilter(0.03 * belt)
        self._gearbox, self._take = gearbox, take

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        gearbox = self._gearbox
        load = 10.0 ** (gearbox.follow(t, self._take, LOADS_DB) / 20.0)
        speed = gearbox.follow(t, self._take, SPEEDS)
        sides = 1.0 + 0.3 * load * np.cos(shaft)
        mesh = sum(
            10.0 ** (level_db / 20.0) * np.cos(k * gearbox.n_blades * shaft + phase)
            for k, (level_db, phase) in enumerate(zip(self._levels_db, self._phases, strict=True), start=1)
        )
        draw = rng(gearbox.seed, "rumble", self._take, index)
        rumble = speed * self._rumble.push(draw.standard_normal(len(t)))
        belt = speed**2 * self._belt.push(draw.standard_normal(len(t)))
        return np.asarray(load * sides * mesh + rumble + belt)
