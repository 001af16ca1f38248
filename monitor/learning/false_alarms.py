"""False alarms on normal sound: blocks of time, events in a replay, and bounds on the rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from monitor.arrays import F64
from monitor.events.decision import Rule, RuleState, decide
from monitor.learning.methods import block_maxima, sustained

WEEK_HOURS = 168.0


@dataclass(frozen=True, kw_only=True)
class NormalScores:
    """Normal segment scores, one array (n_i,) per recording in chronological order, and the rule that they will be used with."""

    sequences: tuple[F64, ...]
    rule: Rule
    segment_ticks: int
    tick_s: float

    @property
    def block_length(self) -> int:
        """The number of segments in a block: a segment's length or the rule's span, whichever is longer."""
        return max(self.segment_ticks, self.rule.raise_n)

    @cached_property
    def scores(self) -> F64:
        """The scores of all recordings (n,)."""
        return np.concatenate(self.sequences)

    @cached_property
    def block_peaks(self) -> F64:
        """The largest score of each block (n_blocks,)."""
        return np.concatenate([block_maxima(scores, length=self.block_length) for scores in self.sequences])

    @property
    def block_s(self) -> float:
        """Seconds of sound per block. A single segment counts with its own length."""
        return max(self.segment_ticks, len(self.scores) / len(self.block_peaks)) * self.tick_s

    @property
    def blocks_per_week(self) -> float:
        """The number of blocks in a week."""
        return WEEK_HOURS * 3600 / self.block_s

    @property
    def replayable(self) -> tuple[F64, ...]:
        """The recordings that are at least as long as the rule's span."""
        return tuple(scores for scores in self.sequences if len(scores) >= self.rule.raise_n)

    @property
    def replayed_hours(self) -> float:
        """The total length of the replayable recordings, counted in decisions."""
        return sum(len(scores) for scores in self.replayable) * self.tick_s / 3600

    @property
    def shows_rule(self) -> bool:
        """Whether the replayable recordings hold at least half of the segments."""
        return 2 * sum(map(len, self.replayable)) >= len(self.scores)

    @property
    def tail(self) -> tuple[F64, F64]:
        """Values (n,) and block peaks (m,) to extrapolate: sustained scores, or segment scores if the recordings are short.

        An event needs a segment over the threshold, so extrapolating from segments is conservative.
        """
        if not self.shows_rule:
            return self.scores, self.block_peaks
        seen = [sustained(scores, k=self.rule.raise_k, n=self.rule.raise_n) for scores in self.replayable]
        peaks = np.concatenate([block_maxima(values, length=self.block_length) for values in seen])
        values = np.concatenate(seen)
        return values[np.isfinite(values)], peaks[np.isfinite(peaks)]

    @property
    def supported_per_week(self) -> float:
        """The lowest rate, in events per week, that needs no extrapolation: one event in n_blocks + 1 blocks."""
        return self.blocks_per_week / (len(self.block_peaks) + 1)

    def events(self, threshold: float, rule: Rule) -> int:
        """The number of events that the device would have reported over these recordings."""
        return sum(count_events(scores / threshold, rule) for scores in self.replayable)

    def bound_95_per_week(self, events: int) -> float | None:
        """Upper 95 % confidence bound on the rate, in events per week; None if nothing could be replayed."""
        hours = self.replayed_hours
        return poisson_bound(events) * WEEK_HOURS / hours if hours else None


def count_events(ratios: Sequence[float] | F64, rule: Rule) -> int:
    """The number of times that the rule raises an event over ratios (n,) of one stream."""
    counts, events = RuleState(), 0
    for ratio in ratios:
        after = decide(rule, counts, float(ratio))
        events += after.raised and not counts.raised
        counts = after
    return events


def poisson_bound(events: int, *, confidence: float = 0.95) -> float:
    """The exact upper bound on the mean of a Poisson count (Garwood 1936). For no events it is 3.0, the rule of three.

    It is the mean for which a count this low has a probability of 1 - confidence, found by bisection.
    """
    counts = np.arange(events + 1)
    log_factorials = np.array([math.lgamma(count + 1.0) for count in counts])
    low, high = 0.0, events + 10.0 * math.sqrt(events + 1.0) + 10.0
    while high - low > 1e-12 * high:
        mean = (low + high) / 2
        chance = float(np.exp(counts * math.log(mean) - mean - log_factorials).sum())
        low, high = (mean, high) if chance > 1.0 - confidence else (low, mean)
    return high
