"""The pipeline of a base bundle, which judges nothing: the state is `learning` while there is sound to learn from."""

from dataclasses import replace

from monitor.errors import ScoreError
from monitor.events.event import EndReason, Event, State
from monitor.events.pipeline import Result, unscored_state
from monitor.scoring.features import TickFrames
from monitor.scoring.scorer import Scorer, TickScore


class Unlearned:
    """Takes the place of a `Pipeline` until the machine has learned. There are no scores, no events and no state `normal`."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._state: State = "starting"
        self._reason: str | None = None
        self._since = 0
        self._unusable: list[str] = []  # reasons of the last consecutive ticks that cannot be learned from
        scorer.reset()

    def step(self, tick: TickFrames) -> Result:
        """Check whether the next tick can be learned from."""
        try:
            scored = self._scorer.score_tick(tick)
        except ScoreError as error:
            return replace(self.no_input(tick.stop, "score_error"), error=str(error))
        segment_ticks = self._scorer.spec.segment_ticks
        if scored.reason is None:
            self._unusable = []
            self._enter("learning", None, scored.stop)
        else:
            self._unusable = [*self._unusable, scored.reason][-segment_ticks:]
            if 2 * len(self._unusable) >= segment_ticks:
                self._enter(*unscored_state(max(self._unusable, key=self._unusable.count)), scored.stop)
        return self._result(TickScore(scored.start, scored.stop, scored.quality, scored.reason, None, scored.n_ticks))

    def no_input(self, stop: int, reason: str) -> Result:
        """Advance to sample `stop` without sound, for the given reason."""
        self._enter("unknown", reason, stop)
        return self._result(TickScore(stop, stop, None, reason, None, 0))

    def close(self, reason: EndReason) -> Event | None:
        """There is never an open anomaly."""
        return None

    def _enter(self, state: State, reason: str | None, stop: int) -> None:
        if state != self._state:
            self._since = stop
        self._state, self._reason = state, reason

    def _result(self, tick: TickScore) -> Result:
        return Result(tick, None, self._state, self._reason, self._since, None)
