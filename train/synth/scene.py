"""The scene: a machine with its fault in a room, a microphone, background noise, and occasional bangs."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from monitor.arrays import F32, F64
from train.synth.faults import FAULTS, Growth
from train.synth.machine import Machine
from train.synth.noise import StreamFilter, rng, spectral_shape

CHUNK_S = 4.0
LEVEL = 0.15  # leaves 16 bits enough room for bangs and faults
BANG_APART_S = 31.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The sound at the microphone. `take` numbers the recordings of the same machine in the same room."""

    machine: Machine
    take: int = 0
    fault: str | None = None
    growth: Growth = field(default_factory=Growth)
    bangs_per_hour: float = 0.0

    def chunks(self, seconds: float) -> Iterator[F32]:
        """The sound, float32, full scale [-1, 1], in chunks of a few seconds; the same whatever the requested length."""
        rate_hz = self.machine.sample_rate_hz
        running = self.machine.sound(self.take)
        fault = FAULTS[self.fault](self.machine, self.take) if self.fault is not None else None
        room = StreamFilter(_room(self.machine))
        background = _Background(self.machine, self.take)
        n_total, n_chunk = round(seconds * rate_hz), round(CHUNK_S * rate_hz)
        for index in range(-(-n_total // n_chunk)):
            t = (index * n_chunk + np.arange(n_chunk)) / rate_hz
            shaft = self.machine.shaft_phase(t, self.take)
            dry = running.push(index, t, shaft)
            if fault is not None:
                dry += self.growth.at(t) * fault.push(index, t, shaft)
            heard = room.push(dry) + background.push(index, t) + self._bangs(t)
            yield np.clip(LEVEL * heard[: n_total - index * n_chunk], -1.0, 1.0).astype(np.float32)

    def _bangs(self, t: F64) -> F64:
        """Bangs in the background: at most one in every slot of time, never two within `BANG_APART_S`."""
        sound = np.zeros(len(t))
        if not self.bangs_per_hour:
            return sound
        slot_s = 3600.0 / self.bangs_per_hour
        for slot in range(max(0, int(t[0] // slot_s) - 1), int(t[-1] // slot_s) + 1):
            draw = rng(self.machine.seed, "bang", self.take, slot)
            since = t - (slot * slot_s + draw.uniform(0.0, max(0.0, slot_s - BANG_APART_S)))
            on = (since >= 0) & (since < 1.0)
            if on.any():
                # Each slot draws one second of noise of its own, so that a bang does not change at the border of a chunk.
                noise = draw.standard_normal(self.machine.sample_rate_hz + 1)
                position = (since[on] * self.machine.sample_rate_hz).astype(int)
                loudness, decay_s = draw.uniform(0.3, 2.0), draw.uniform(0.03, 0.15)
                thump = np.sin(2 * np.pi * draw.uniform(60.0, 160.0) * since[on])
                sound[on] += loudness * np.exp(-since[on] / decay_s) * (0.6 * noise[position] + thump)
        return sound


class _Background:
    """The hall: quiet low-frequency noise whose level drifts by about a decibel, and mains hum."""

    def __init__(self, machine: Machine, take: int) -> None:
        self._machine, self._take = machine, take
        shape = spectral_shape({30: 6, 100: 0, 1000: -14, 8000: -32}, sample_rate_hz=machine.sample_rate_hz)
        self._filter = StreamFilter(0.02 * shape)
        self._start = rng(machine.seed, "background", take).uniform(0.0, 2 * np.pi)

    def push(self, index: int, t: F64) -> F64:
        draw = rng(self._machine.seed, "background", self._take, index)
        wander = 10.0 ** (np.sin(2 * np.pi * t / 61.0 + self._start) / 20.0)
        hum = 0.002 * np.sin(2 * np.pi * 100.0 * t + self._start)
        hiss = 0.0006 * draw.standard_normal(len(t))  # the microphone's own
        return wander * self._filter.push(draw.standard_normal(len(t))) + hum + hiss


def _room(machine: Machine) -> F64:
    """Direct sound and a diffuse decay of 0.3 s (RT60), through a small MEMS microphone's response."""
    draw = rng(machine.seed, "room")
    t = np.arange(round(0.3 * machine.sample_rate_hz)) / machine.sample_rate_hz
    response = 0.04 * draw.standard_normal(len(t)) * 10.0 ** (-3.0 * t / 0.3)
    response[0] = 1.0
    microphone = spectral_shape({20: -20, 60: -3, 120: 0, 4000: 0, 7000: 2, 8000: -1}, sample_rate_hz=machine.sample_rate_hz)
    return np.convolve(response, microphone)
