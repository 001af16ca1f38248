"""Folds of measured recordings, and the part that a second network does not know, in the order of time."""

from pathlib import Path

import numpy as np

from monitor.learning.measured import RecordingSums
from train.calibration.cross_fitting import in_folds, time_order
from train.datasets import Clip, RecordingOrder, folds

N_SESSIONS, N_TAKES = 5, 3


def clip(session: int, take: int) -> Clip:
    return Clip(path=Path(f"s{session}-{take}.wav"), label="normal", recording=f"s{session}-{take}")


# Sessions take turns: a morning here, a morning there. The clips come in the order of their names.
CLIPS = [clip(session, take) for session in range(N_SESSIONS) for take in range(N_TAKES)]
SESSIONS = tuple(tuple(clip(session, take).recording for take in range(N_TAKES)) for session in range(N_SESSIONS))
IN_TURN = tuple(clip(session, take).recording for take in range(N_TAKES) for session in range(N_SESSIONS))
ORDER = RecordingOrder(source="recorded.csv", recordings=IN_TURN, sessions=SESSIONS, session_names=tuple("abcde"))


def measured(name: str) -> RecordingSums:
    empty = np.empty((0, 1), np.float32)
    return RecordingSums(np.ones((12, 1)), np.zeros(12), np.arange(12), step_samples=1, hours=1.0, frequent=empty, name=name)


def test_sessions_that_take_turns_stay_whole_in_their_folds() -> None:
    found = in_folds([measured(one.recording) for one in CLIPS], CLIPS, ORDER, n_ticks=10)
    assert [{one.name for one in fold} for fold in found] == [set(fold) for fold in folds(ORDER)]


def test_clips_are_put_in_the_order_of_time_whatever_their_names() -> None:
    assert tuple(CLIPS[at].recording for at in time_order(CLIPS, ORDER)) == IN_TURN
