"""The slow path: a lasting rise over the machine's own level, as learned on the spot, that is too small for segments.

The unit is the median score of 15 minutes of scored sound. Bangs, gaps and pauses do not move it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitor.arrays import F64, runs
from monitor.errors import ConfigError
from monitor.explain.bands import MAX_BANDS, Band

MINUTES = 15  # of scored sound in a median
HOURS = 8.0  # of scored sound that are learned,
N_BLOCKS = round(HOURS * 60 / MINUTES)  # as so many medians that share no sound
FOLDS = 5  # blocks of time that are compared with the rest
PRIOR_SPREAD = 0.05  # of 15-minute medians, in log units: what machines have in common,
PRIOR_WEIGHT = 10  # and how many medians that counts for
DEGREES = PRIOR_WEIGHT + FOLDS - 1  # of freedom: folds are independent, neighbouring medians are not
WIDTH = 4.14  # spreads: passed by 1 in 2,000 15-minute medians, Student's t with DEGREES of freedom
MIN_RATIO = 1.2  # to normal: what is less is not worth a warning
MAX_LEVEL_RATIO = 2.0  # of the level on the spot to that in training
MAX_GAIN_DB = 3.0  # that a microphone's gain or place may change
MIN_BAND_DB, BAND_SPREADS = 1.5, 4.0  # a band differs clearly: more than a load change moves it, and not by chance
SMALLEST = 1e-9
Status = Literal["learning", "ready", "learn_again"]


@dataclass(frozen=True)
class NormalLevel:
    """A machine's own level: the median score, the spread of log medians, and the median score from which it is a warning."""

    normal: float
    spread: float
    limit: float

    @property
    def clear_ratio(self) -> float:
        """The ratio to the limit below which a warning ends: half way to the normal level, in log units."""
        return math.sqrt(self.normal / self.limit)


@dataclass(frozen=True)
class SlowState:
    """What a restart must not lose: at most 47 scores and two numbers a band.

    `medians` are the scores of 15 minutes each that were learned; `level_sum` (n_bands,) the sum of those minutes' levels,
    dB; `shape_squares` (n_bands,) that of their squares without what all bands share; `minutes` the scores that are watched.
    """

    medians: tuple[float, ...] = ()
    level_sum: tuple[float, ...] = ()
    shape_squares: tuple[float, ...] = ()
    minutes: tuple[float, ...] = ()


def fit_normal_level(medians: Sequence[float]) -> NormalLevel:
    """Learn from scores (n,), the medians of successive 15 minutes; n at least 5.

    The spread is that of each fifth of the time around the median of the other four fifths. It holds the changes from
    hour to hour, which the spread of successive medians around their own mean hides. It is shrunk towards a prior; the
    limit is the predictive quantile of Student's t (Gelman et al., Bayesian Data Analysis, 3rd edition, section 3.2).
    """
    if len(medians) < FOLDS:
        raise ConfigError(f"a reference needs at least {FOLDS} medians, got {len(medians)}")
    logs = np.log(np.maximum(np.asarray(medians, np.float64), SMALLEST))
    normal = float(np.median(logs))
    parts = np.array_split(logs, FOLDS)
    rests = [np.concatenate(parts[:i] + parts[i + 1 :]) for i in range(FOLDS)]
    variance = float(np.mean(np.concatenate([(part - np.median(rest)) ** 2 for part, rest in zip(parts, rests, strict=True)])))
    spread = math.sqrt((PRIOR_WEIGHT * PRIOR_SPREAD**2 + (FOLDS - 1) * variance) / DEGREES)
    wide = WIDTH * spread * math.sqrt(1.0 + 1.0 / FOLDS)
    return NormalLevel(math.exp(normal), spread, math.exp(normal + max(wide, math.log(MIN_RATIO))))


def standing_out(excess_db: F64, spread_db: F64, limits_hz: F64) -> tuple[Band, ...]:
    """The runs of bands whose excess (n_bands,), dB, is clear, and clear beside the other bands'; at most five.

    What all bands share is a gain, up to 3 dB, and says nothing of where. `spread_db` (n_bands,) is that of normal sound
    without what bands share, `limits_hz` (n_bands + 1,) the front end's. What stands out most comes first.
    """
    beyond = excess_db - np.clip(np.median(excess_db), -MAX_GAIN_DB, MAX_GAIN_DB)
    least = np.maximum(MIN_BAND_DB, BAND_SPREADS * spread_db)
    signs = (1.0, -1.0)
    found = [run for sign in signs for run in runs((sign * beyond >= least) & (sign * excess_db >= MIN_BAND_DB))]
    found = sorted(found, key=lambda run: -abs(float(beyond[run].mean())))[:MAX_BANDS]
    return tuple(
        Band(*(round(float(value), 1) for value in (limits_hz[run.start], limits_hz[run.stop], excess_db[run].mean())))
        for run in found
    )


@dataclass(frozen=True)
class _Minute:
    """A minute of scored sound: its median score, the sample index at which it began, and its mean level."""

    score: float
    start: int = 0
    level_db: F64 | None = None  # None where the minute was heard before a restart


class SlowPath:
    """Learn the machine's own level, then watch the median of the last 15 minutes of scored sound.

    The level of the sound is measured every `segment_ticks`. `typical` is the mean score of normal sound in training; None
    where nobody knows it. `limits_hz` (n_bands + 1,) are the front end's. `state` is where an earlier run ended.
    """

    def __init__(
        self, *, tick_s: float, segment_ticks: int, typical: float | None, limits_hz: F64, state: SlowState | None = None
    ) -> None:
        self._typical = typical
        self._limits_hz = limits_hz
        self._minute_ticks = max(1, round(60.0 / tick_s))
        self._segment_ticks = min(segment_ticks, self._minute_ticks)
        self.restart(state)

    def restart(self, state: SlowState | None = None) -> None:
        """Go on from a state; without one, learn the machine's own level anew."""
        n_bands = len(self._limits_hz) - 1
        state = state or SlowState()
        if state.medians and not len(state.level_sum) == len(state.shape_squares) == n_bands:
            raise ConfigError(f"level_sum and shape_squares must hold {n_bands} values, got {len(state.level_sum)}")
        self.raised = False
        self.bands: tuple[Band, ...] = ()  # where the sound differs, as long as it is raised
        self._medians = list(state.medians[:N_BLOCKS])
        self._level_sum = np.array(state.level_sum or np.zeros(n_bands), np.float64)
        self._shape_squares = np.array(state.shape_squares or np.zeros(n_bands), np.float64)
        self._minutes = [_Minute(score) for score in state.minutes[-MINUTES:]]
        self._scores: list[float] = []  # of the minute that is not over yet,
        self._levels_db: list[F64] = []  # and of its segments that share no sound
        self._start = 0  # of that minute
        self._released_at = 0  # sample index
        self.reference = fit_normal_level(self._medians) if len(self._medians) == N_BLOCKS else None

    def state(self) -> SlowState:
        """What a later run goes on from: to the minute while it watches, to 15 minutes while it learns."""
        minutes = () if self.reference is None else tuple(minute.score for minute in self._minutes)
        return SlowState(tuple(self._medians), tuple(self._level_sum.tolist()), tuple(self._shape_squares.tolist()), minutes)

    @property
    def status(self) -> Status:
        """Whether it knows the machine, and whether the bundle still fits it."""
        if self.reference is None:
            return "learning"
        is_far = self._typical is not None and self.reference.normal > MAX_LEVEL_RATIO * self._typical
        return "learn_again" if is_far else "ready"

    @property
    def missing_h(self) -> float:
        """Hours of scored sound that are still to be learned."""
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
        """The sample index at which the last minutes over the limit in a row began, since the start and the last event."""
        assert self.reference is not None and self._minutes
        start = self._minutes[-1].start
        for minute in reversed(self._minutes):
            if minute.level_db is None or minute.score < self.reference.limit:
                break
            start = minute.start
        return max(start, self._released_at)

    def push(self, score: float, *, start: int, is_normal: bool, level_db: Callable[[], F64]) -> None:
        """Take the score of one more segment; there is one a tick.

        Only scores that are `is_normal`, below the warning threshold, are learned. `start` is the sample index of the tick.
        `level_db()` is the segment's level (n_bands,), dB, asked for once a segment.
        """
        if self.reference is None and not is_normal:
            return
        if not self._scores:
            self._start = start
        self._scores.append(score)
        if len(self._scores) % self._segment_ticks == 0:
            self._levels_db.append(level_db())
        if len(self._scores) < self._minute_ticks:
            return
        minute = _Minute(float(np.median(self._scores)), self._start, np.mean(self._levels_db, axis=0))
        self._scores, self._levels_db = [], []
        self._minutes = [*self._minutes, minute][-MINUTES:]
        if self.reference is not None:
            self._decide()
        elif len(self._minutes) == MINUTES:
            self._learn()

    def release(self, at: int) -> None:
        """An event ended at this sample index, for whatever reason."""
        self.raised, self.bands = False, ()
        self._released_at = at

    def _learn(self) -> None:
        level_db = np.mean([minute.level_db for minute in self._minutes if minute.level_db is not None], axis=0)
        self._level_sum = self._level_sum + level_db
        self._shape_squares = self._shape_squares + (level_db - level_db.mean()) ** 2
        self._medians.append(float(np.median([minute.score for minute in self._minutes])))
        self._minutes = []
        if len(self._medians) == N_BLOCKS:
            self.reference = fit_normal_level(self._medians)

    def _decide(self) -> None:
        ratio = self.ratio
        if ratio is None or self.status != "ready":
            return
        found = self._bands() if ratio >= 1.0 else ()
        assert self.reference is not None
        self.raised = bool(found) or (self.raised and ratio >= self.reference.clear_ratio)
        self.bands = found or (self.bands if self.raised else ())

    def _bands(self) -> tuple[Band, ...]:
        """Where the minutes over the limit differ from what was learned."""
        assert self.reference is not None
        over = [one.level_db for one in self._minutes if one.level_db is not None and one.score >= self.reference.limit]
        if not over:
            return ()
        mean = self._level_sum / N_BLOCKS
        spread = np.sqrt(np.maximum(0.0, self._shape_squares / N_BLOCKS - (mean - mean.mean()) ** 2))
        return standing_out(np.mean(over, axis=0) - mean, spread, self._limits_hz)
