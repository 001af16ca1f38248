"""The slow path: detects a lasting rise over the machine's own learned level that is too small for the segments' rule.

Its unit is the median score of 15 minutes of scored sound, which is not affected by bangs, gaps and pauses.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from monitor.arrays import F64, runs
from monitor.errors import ConfigError
from monitor.explain.bands import MAX_BANDS, Band

MINUTES = 15  # scored sound per median
HOURS = 8.0  # scored sound needed to learn the level
N_BLOCKS = round(HOURS * 60 / MINUTES)  # number of medians that share no sound
FOLDS = 5  # blocks of time, each compared with the others
PRIOR_SPREAD = 0.05  # typical spread of 15-minute medians, in log units
PRIOR_WEIGHT = 10  # the prior weighs as much as this many medians
DEGREES = PRIOR_WEIGHT + FOLDS - 1  # degrees of freedom: folds are independent, neighbouring medians are not
# In spreads: exceeded by 1 in 2,000 15-minute medians, Student's t with DEGREES degrees of freedom.
WIDTH = 4.14
MIN_RATIO = 1.2  # limit / normal level: smaller rises are not worth a warning
MAX_LEVEL_RATIO = 2.0  # learned level / level in training
MAX_GAIN_DB = 3.0  # of a microphone whose gain or position has changed
# A clear difference of a band: larger than a change of load makes, and significant.
MIN_BAND_DB, BAND_SPREADS = 1.5, 4.0
SMALLEST = 1e-9
Status = Literal["learning", "ready", "learn_again"]


@dataclass(frozen=True)
class NormalLevel:
    """A machine's own level: the median score, the spread of log medians, and the median that raises a warning."""

    normal: float
    spread: float
    limit: float

    @property
    def clear_ratio(self) -> float:
        """The ratio to the limit below which a warning ends: half-way to the normal level, in log units."""
        return math.sqrt(self.normal / self.limit)


@dataclass(frozen=True)
class SlowState:
    """The state that survives a restart: at most 47 scores and two numbers per band.

    `medians` are the learned 15-minute medians. `level_sum` (n_bands,) is the sum of their mean levels, dB. `shape_squares`
    (n_bands,) is the sum of the squared levels, after subtracting the part common to all bands. `minutes` are the scores of
    the last minutes.
    """

    medians: tuple[float, ...] = ()
    level_sum: tuple[float, ...] = ()
    shape_squares: tuple[float, ...] = ()
    minutes: tuple[float, ...] = ()


def fit_normal_level(medians: Sequence[float]) -> NormalLevel:
    """Fit to scores (n,), the medians of successive 15 minutes; n at least 5.

    The spread is that of each fifth of the time around the median of the other four fifths. It includes the changes from
    hour to hour, which do not show in the spread of successive medians around their own mean. It is shrunk towards a prior.
    The limit is the predictive quantile of Student's t (Gelman et al., Bayesian Data Analysis, 3rd edition, section 3.2).
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
    """The runs of bands with a significant excess (n_bands,), dB, both absolute and relative to the other bands; at most five.

    An excess common to all bands, up to 3 dB, is attributed to gain. `spread_db` (n_bands,) is the spread of normal sound
    without the part common to all bands. `limits_hz` (n_bands + 1,) are the band limits of the front end. Sorted by excess,
    largest first.
    """
    beyond = excess_db - np.clip(np.median(excess_db), -MAX_GAIN_DB, MAX_GAIN_DB)
    min_db = np.maximum(MIN_BAND_DB, BAND_SPREADS * spread_db)
    signs = (1.0, -1.0)
    found = [run for sign in signs for run in runs((sign * beyond >= min_db) & (sign * excess_db >= MIN_BAND_DB))]
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
    level_db: F64 | None = None  # None for a minute from before a restart


class SlowPath:
    """Learns the machine's own level, then compares the median of the last 15 minutes of scored sound with it.

    The level of the sound is measured every `segment_ticks`. `typical` is the mean score of normal sound in training, or
    None if it is unknown. `limits_hz` (n_bands + 1,) are the band limits of the front end. `state` is that of an earlier run.
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
        """Resume from a state. Without one, learn the machine's own level again."""
        n_bands = len(self._limits_hz) - 1
        state = state or SlowState()
        if state.medians and not len(state.level_sum) == len(state.shape_squares) == n_bands:
            raise ConfigError(f"level_sum and shape_squares must hold {n_bands} values, got {len(state.level_sum)}")
        self.raised = False
        self.bands: tuple[Band, ...] = ()  # where the sound differs while a warning is open
        self._medians = list(state.medians[:N_BLOCKS])
        self._level_sum = np.array(state.level_sum or np.zeros(n_bands), np.float64)
        self._shape_squares = np.array(state.shape_squares or np.zeros(n_bands), np.float64)
        self._minutes = [_Minute(score) for score in state.minutes[-MINUTES:]]
        self._scores: list[float] = []  # of the current minute
        self._levels_db: list[F64] = []  # segments of the current minute that share no sound
        self._start = 0  # sample index of the current minute
        self._released_at = 0  # sample index
        self.normal_level = fit_normal_level(self._medians) if len(self._medians) == N_BLOCKS else None

    def state(self) -> SlowState:
        """The state to resume from, exact to a minute once the level is learned, and to 15 minutes before that."""
        minutes = () if self.normal_level is None else tuple(minute.score for minute in self._minutes)
        return SlowState(tuple(self._medians), tuple(self._level_sum.tolist()), tuple(self._shape_squares.tolist()), minutes)

    @property
    def status(self) -> Status:
        """Whether the level is learned, and whether it is plausible for the bundle."""
        if self.normal_level is None:
            return "learning"
        is_far = self._typical is not None and self.normal_level.normal > MAX_LEVEL_RATIO * self._typical
        return "learn_again" if is_far else "ready"

    @property
    def missing_h(self) -> float:
        """Hours of scored sound still missing to learn the level."""
        if self.normal_level is not None:
            return 0.0
        return HOURS - (len(self._medians) * MINUTES + len(self._minutes)) / 60.0

    @property
    def median(self) -> float | None:
        """The median score of the last 15 minutes; None while learning and before 15 minutes of sound."""
        if self.normal_level is None or len(self._minutes) < MINUTES:
            return None
        return float(np.median([minute.score for minute in self._minutes]))

    @property
    def ratio(self) -> float | None:
        """The median divided by the limit."""
        median = self.median
        return None if median is None or self.normal_level is None else median / self.normal_level.limit

    @property
    def onset(self) -> int:
        """The sample index at which the current run of minutes over the limit began, not before a restart or the last event."""
        assert self.normal_level is not None and self._minutes
        start = self._minutes[-1].start
        for minute in reversed(self._minutes):
            if minute.level_db is None or minute.score < self.normal_level.limit:
                break
            start = minute.start
        return max(start, self._released_at)

    def push(self, score: float, *, start: int, is_normal: bool, level_db: Callable[[], F64]) -> None:
        """Include the score of one more segment. There is one per tick.

        Only scores with `is_normal`, below the warning threshold, are learned. `start` is the sample index of the tick.
        `level_db()` returns the segment's level (n_bands,), dB. It is called once per `segment_ticks`.
        """
        if self.normal_level is None and not is_normal:
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
        if self.normal_level is not None:
            self._decide()
        elif len(self._minutes) == MINUTES:
            self._learn()

    def release(self, at: int) -> None:
        """Close the warning, because the event ended at this sample index."""
        self.raised, self.bands = False, ()
        self._released_at = at

    def _learn(self) -> None:
        level_db = np.mean([minute.level_db for minute in self._minutes if minute.level_db is not None], axis=0)
        self._level_sum = self._level_sum + level_db
        self._shape_squares = self._shape_squares + (level_db - level_db.mean()) ** 2
        self._medians.append(float(np.median([minute.score for minute in self._minutes])))
        self._minutes = []
        if len(self._medians) == N_BLOCKS:
            self.normal_level = fit_normal_level(self._medians)

    def _decide(self) -> None:
        ratio = self.ratio
        if ratio is None or self.status != "ready":
            return
        found = self._bands() if ratio >= 1.0 else ()
        assert self.normal_level is not None
        self.raised = bool(found) or (self.raised and ratio >= self.normal_level.clear_ratio)
        self.bands = found or (self.bands if self.raised else ())

    def _bands(self) -> tuple[Band, ...]:
        """The bands in which the minutes over the limit differ from the learned level."""
        assert self.normal_level is not None
        over = [one.level_db for one in self._minutes if one.level_db is not None and one.score >= self.normal_level.limit]
        if not over:
            return ()
        mean = self._level_sum / N_BLOCKS
        spread = np.sqrt(np.maximum(0.0, self._shape_squares / N_BLOCKS - (mean - mean.mean()) ** 2))
        return standing_out(np.mean(over, axis=0) - mean, spread, self._limits_hz)
