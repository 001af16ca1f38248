"""The slow path: a lasting rise over the machine's own level, as learned on the spot, that is too small for segments.

The unit is the median score of 15 minutes of scored sound. Bangs, gaps and pauses do not move it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from monitor.core.arrays import F64
from monitor.core.bands import Band
from monitor.core.errors import ConfigError

MINUTES = 15  # of scored sound in a median
HOURS = 12.0  # of scored sound that are learned,
N_BLOCKS = round(HOURS * 60 / MINUTES)  # as so many medians that share no sound
FOLDS = 5  # blocks of time that are compared with the rest
PRIOR_SPREAD = 0.15  # of 15-minute medians, in log units: what machines have in common,
PRIOR_WEIGHT = 10  # and how many medians that counts for
DEGREES = PRIOR_WEIGHT + FOLDS - 1  # of freedom: folds are independent, neighbouring medians are not
WIDTH = 4.14  # spreads: passed by 1 in 2,000 15-minute medians, Student's t with DEGREES of freedom
MIN_RATIO = 2.0  # to normal: what is less is not worth a warning
CLEAR_RATIO = 0.8  # to the limit
MAX_LEVEL_RATIO = 2.0  # of the level on the spot to that in training
SMALLEST = 1e-9
Status = Literal["learning", "ready", "learn_again"]


@dataclass(frozen=True)
class Reference:
    """A machine's own level: the median score, the spread of log medians, and the median score from which it is a warning."""

    normal: float
    spread: float
    limit: float


def fit_reference(medians: Sequence[float]) -> Reference:
    """Learn from scores (n,), the medians of successive 15 minutes; n at least 5.

    The spread is that of each fifth of the time around the median of the other four fifths. It holds the changes from
    hour to hour, which the spread of successive medians around their own mean hides. It is shrunk towards a prior; the
    limit is the predictive quantile of Student's t (Gelman et al., Bayesian Data Analysis, 3rd edition, section 3.2).
    """
    if len(medians) < FOLDS:
        raise ConfigError(f"a reference needs at least {FOLDS} medians, got {len(medians)}")
    logs = np.log(np.maximum(np.asarray(medians, np.float64), SMALLEST))
    normal = float(np.median(logs))
    variance = float(np.mean(np.concatenate([(fold - np.median(rest)) ** 2 for fold, rest in _folds(logs)])))
    spread = math.sqrt((PRIOR_WEIGHT * PRIOR_SPREAD**2 + (FOLDS - 1) * variance) / DEGREES)
    wide = WIDTH * spread * math.sqrt(1.0 + 1.0 / FOLDS)
    return Reference(math.exp(normal), spread, math.exp(normal + max(wide, math.log(MIN_RATIO))))


def _folds(logs: F64) -> list[tuple[F64, F64]]:
    parts = np.array_split(logs, FOLDS)
    return [(part, np.concatenate(parts[:i] + parts[i + 1 :])) for i, part in enumerate(parts)]


@dataclass(frozen=True)
class _Minute:
    """A minute of scored sound: its median score, and where it is from if it was heard since the start."""

    score: float
    start: int = 0  # sample index of its first tick
    level_db: F64 | None = None  # (n_bands,), of its last segment; None where it was heard before a restart


class SlowPath:
    """Learn the machine's own level, then watch the median of the last 15 minutes of scored sound.

    `typical` is the mean score of normal sound in training; None where nobody knows it. `differs` finds the bands of a
    level (n_bands,), dB, that differ. `state` is what an earlier run has kept: it goes on from there to the minute.
    """

    def __init__(
        self,
        *,
        tick_s: float,
        typical: float | None,
        differs: Callable[[F64], tuple[Band, ...]],
        state: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._typical = typical
        self._differs = differs
        self._minute_ticks = max(1, round(60.0 / tick_s))
        self.restart(state or {"medians": (), "minutes": ()})

    def restart(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on from this state; from an empty one, learn the machine's own level anew."""
        self.raised = False
        self.bands: tuple[Band, ...] = ()  # where the sound differs, as long as it is raised
        self._medians = list(state["medians"])[:N_BLOCKS]  # of 15 minutes each: what is learned
        self._minutes = [_Minute(score) for score in state["minutes"]][-MINUTES:]  # or those of the median that is learned
        self._scores: list[float] = []  # of the minute that is not over yet
        self._start = 0
        self.reference: Reference | None = None
        self._settle()

    def state(self) -> dict[str, list[float]]:
        """What a later run goes on from; at most 63 numbers."""
        return {"medians": list(self._medians), "minutes": [minute.score for minute in self._minutes]}

    @property
    def status(self) -> Status:
        """Whether it knows the machine, and whether the bundle still fits it."""
        if self.reference is None:
            return "learning"
        is_far = self._typical is not None and self.reference.normal > MAX_LEVEL_RATIO * self._typical
        return "learn_again" if is_far else "ready"

    @property
    def missing_hours(self) -> float:
        """How much more scored sound it has to learn."""
        if self.reference is not None:
            return 0.0
        return HOURS - (len(self._medians) * MINUTES + len(self._minutes)) / 60.0

    @property
    def median(self) -> float | None:
        """The median score of the last 15 minutes; None until it watches and has heard so much."""
        if self.reference is None or len(self._minutes) < MINUTES:
            return None
        return float(np.median([minute.score for minute in self._minutes]))

    @property
    def ratio(self) -> float | None:
        """The median as a ratio to the limit."""
        median = self.median
        return None if median is None or self.reference is None else median / self.reference.limit

    @property
    def onset(self) -> int:
        """The sample index at which the last minutes over the limit in a row began, as far as they were heard since the start."""
        assert self.reference is not None and self._minutes
        start = self._minutes[-1].start
        for minute in reversed(self._minutes):
            if minute.level_db is None or minute.score < self.reference.limit:
                break
            start = minute.start
        return start

    def push(self, score: float, *, start: int, is_normal: bool, level: Callable[[], F64]) -> None:
        """Take the score of one more segment in, there is one a tick; `start` is the sample index of that tick.

        Only `is_normal` ones, below the warning threshold, are learned. `level()` is the segment's, asked for once a minute.
        """
        if self.reference is None and not is_normal:
            return
        if not self._scores:
            self._start = start
        self._scores.append(score)
        if len(self._scores) < self._minute_ticks:
            return
        median = float(np.median(self._scores))
        self._scores = []
        if self.reference is None:
            self._learn(median)
        else:
            self._minutes = [*self._minutes, _Minute(median, self._start, level())][-MINUTES:]
            self._decide()

    def release(self) -> None:
        """The event is over, for whatever reason."""
        self.raised, self.bands = False, ()

    def _learn(self, minute: float) -> None:
        self._minutes.append(_Minute(minute))
        if len(self._minutes) == MINUTES:
            self._medians.append(float(np.median([one.score for one in self._minutes])))
            self._minutes = []
            self._settle()

    def _settle(self) -> None:
        if len(self._medians) == N_BLOCKS:
            self.reference = fit_reference(self._medians)

    def _decide(self) -> None:
        ratio = self.ratio
        if ratio is None or self.status != "ready":
            return
        if self.raised:
            self.raised = ratio >= CLEAR_RATIO
        found = self._bands() if ratio >= 1.0 else ()
        self.raised = self.raised or bool(found)
        self.bands = found or (self.bands if self.raised else ())

    def _bands(self) -> tuple[Band, ...]:
        """Where the minutes over the limit differ."""
        assert self.reference is not None
        over = [one.level_db for one in self._minutes if one.level_db is not None and one.score >= self.reference.limit]
        return self._differs(np.mean(over, axis=0)) if over else ()
