"""Detect a stuck source: its sound repeats bit for bit. A microphone never delivers the same noise twice."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from monitor.arrays import F32

STEP_S = 0.25  # the sound is compared once per step
MAX_PERIOD_S = 3.0
N_REPEATS = 2  # periods that must be equal to the ones before them
MIN_REPEATED_S = 0.5  # for short periods
N_PROBES = 16  # samples of a step that are compared first
N_CANDIDATES = 8  # periods that are compared completely


class Part(NamedTuple):
    """Consecutive samples (n,), all repeating or none."""

    samples: F32
    repeating: bool


class RepetitionDetector:
    """Marks sound that has repeated exactly for some periods. Steps are counted in samples, so block sizes do not matter.

    With `looks_ahead`, sound is held back until all of a repetition can be marked, from its first period on. Without it, sound is
    returned at once, marked according to the last complete step.
    """

    def __init__(self, *, rate_hz: int, looks_ahead: bool) -> None:
        self._step = max(1, round(STEP_S * rate_hz))
        self._max_period = round(MAX_PERIOD_S * rate_hz)
        self._min_repeated = round(MIN_REPEATED_S * rate_hz)
        # The sound of the last steps, at least the longest period before the current one. Moved to the front when it is full.
        self._sound = np.empty(self._max_period + 4 * self._step, np.float32)
        self._n_sound = 0
        self._current: list[F32] = []  # parts of the current step
        self._n_current = 0
        self._period: int | None = None
        self._n_repeated = 0  # samples equal to those one period earlier, in whole steps
        longest = N_REPEATS * self._max_period + self._step + self._max_period
        self._n_held = -(-longest // self._step) if looks_ahead else 0  # steps
        self._looks_ahead = looks_ahead
        self._held: deque[Part] = deque()

    @property
    def repeating(self) -> bool:
        """Whether the last complete step belongs to a repetition."""
        return self._period is not None and self._n_repeated >= max(N_REPEATS * self._period, self._min_repeated)

    def push(self, samples: F32) -> list[Part]:
        """Append samples (n,). Returns the sound that is decided."""
        parts: list[Part] = []
        while len(samples):
            piece, samples = samples[: self._step - self._n_current], samples[self._step - self._n_current :]
            if not self._looks_ahead:
                parts.append(Part(piece, self.repeating))
            self._current.append(piece)
            self._n_current += len(piece)
            if self._n_current == self._step:
                self._end_step()
        while len(self._held) > self._n_held:
            parts.append(self._held.popleft())
        return parts

    def flush(self) -> list[Part]:
        """Return the sound that was held back, because no more follows."""
        rest = [Part(piece, self.repeating) for piece in self._current] if self._looks_ahead else []
        parts = [*self._held, *rest]
        self._held.clear()
        self._current, self._n_current = [], 0
        return parts

    def _end_step(self) -> None:
        step = self._current[0] if len(self._current) == 1 else np.concatenate(self._current)
        self._current, self._n_current = [], 0
        if self._n_sound + self._step > len(self._sound):
            kept = min(self._n_sound, self._max_period)
            self._sound[:kept] = self._sound[self._n_sound - kept : self._n_sound]
            self._n_sound = kept
        before, self._n_sound = self._n_sound, self._n_sound + self._step
        self._sound[before : self._n_sound] = step
        if self._period is not None and np.array_equal(step, self._sound[before - self._period :][: self._step]):
            self._n_repeated += self._step
        else:
            sound = self._sound[max(0, before - self._max_period) : self._n_sound]
            self._period = _find_period(sound, self._step)
            self._n_repeated = 0 if self._period is None else self._step
        if not self._looks_ahead:
            return
        self._held.append(Part(step, self.repeating))
        if self.repeating and self._period is not None:
            n_steps = -(-(self._n_repeated + self._period) // self._step)
            for at in range(max(0, len(self._held) - n_steps), len(self._held)):
                self._held[at] = self._held[at]._replace(repeating=True)


def _find_period(sound: F32, n: int) -> int | None:
    """The smallest period with which the last `n` samples repeat earlier ones; None if they do not, or are constant."""
    step = sound[-n:]
    first = len(sound) - n
    anchor = int(np.argmax(np.abs(step)))  # a rare value
    starts = np.flatnonzero(sound[anchor : first + anchor] == step[anchor])  # of an earlier occurrence of the step
    if not len(starts) or (step == step[anchor]).all():
        return None
    for probe in range(0, n, max(1, n // N_PROBES)):
        starts = starts[sound[starts + probe] == step[probe]]
        if not len(starts):
            return None
    matches = (start for start in starts[: -N_CANDIDATES - 1 : -1].tolist() if np.array_equal(sound[start : start + n], step))
    start = next(matches, None)
    return None if start is None else first - start


def regrouped(parts: Iterable[Part], n: int) -> Iterator[Part]:
    """The same samples as parts of `n`, which are cut again where the mark changes."""
    held: list[F32] = []
    marked, n_missing = False, n
    for part in parts:
        if held and part.repeating != marked:
            yield Part(np.concatenate(held), marked)
            held = []
        marked, samples = part.repeating, part.samples
        while len(samples):
            held.append(samples[:n_missing])
            samples, n_missing = samples[n_missing:], n_missing - len(held[-1])
            if not n_missing:
                yield Part(np.concatenate(held), marked)
                held, n_missing = [], n
    if held:
        yield Part(np.concatenate(held), marked)
