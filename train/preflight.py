"""Before an hour of training: is the sound sound?"""

from collections.abc import Iterable, Sequence

from monitor.core.errors import SourceError
from train.datasets import Clip, Piece
from train.datasets.survey import Heard, survey

MOST_CLIPPED = 0.1  # of a recording
_MIN_SEGMENTS = 2  # one alone has no spread


def check_sound(clips: Sequence[Clip], *, channel: int | None) -> list[Heard]:
    """Every clip can be read and holds sound; SourceError names the first that does not, and counts the rest."""
    heard = survey(clips, channel=channel)
    if problems := problems_of(heard):
        more = f" (and {len(problems) - 1} more; see train inspect)" if len(problems) > 1 else ""
        raise SourceError(f"{problems[0]}{more}")
    return heard


def problems_of(heard: Iterable[Heard]) -> list[str]:
    """What keeps files from being trained on, a text each of these."""
    return [problem for one in heard if (problem := _problem(one)) is not None]


def check_held_out(pieces: Sequence[Piece], heard: Iterable[Heard], *, segment_ticks: int, tick_s: float) -> None:
    """What is held out, of what was heard, gives enough sound to set a threshold on; SourceError says how much it gives."""
    by_path = {one.clip.path: one for one in heard}
    found = 0
    for piece in pieces:
        ticks = by_path[piece.recording.path].usable_s(piece.start_s, piece.stop_s) / tick_s
        if 2 * ticks >= segment_ticks:
            found += 1 if ticks < segment_ticks + 1 else 2
    if found < _MIN_SEGMENTS:
        raise SourceError(
            f"{len(pieces)} held-out recording{'s' * (len(pieces) != 1)} must give at least {_MIN_SEGMENTS} segments of "
            f"{segment_ticks * tick_s:.1f} s to set a threshold on, got {found}: more or longer recordings are needed"
        )


def check_training(pieces: Sequence[Piece], heard: Iterable[Heard], *, segment_ticks: int, tick_s: float) -> None:
    """What is trained on, of what was heard, shows how segments differ; SourceError says how many it gives."""
    by_path = {one.clip.path: one for one in heard}
    usable_s = (by_path[piece.recording.path].usable_s(piece.start_s, piece.stop_s) for piece in pieces)
    found = sum(max(1, int(one_s / tick_s) // segment_ticks) for one_s in usable_s if one_s > 0.0)
    if found < _MIN_SEGMENTS:
        raise SourceError(
            f"{len(pieces)} recording{'s' * (len(pieces) != 1)} to train on must give at least {_MIN_SEGMENTS} segments of "
            f"{segment_ticks * tick_s:.1f} s, got {found}: more or longer recordings are needed"
        )


def _problem(heard: Heard) -> str | None:
    if heard.error is not None:
        return heard.error
    if heard.silent:
        return f"{heard.clip.path}: must hold sound to train on, got silence"
    share = heard.refused_s.get("clipped", 0.0) / heard.duration_s
    if share > MOST_CLIPPED:
        return f"{heard.clip.path}: must not be clipped to train on, got {share:.0%} of it clipped"
    return None
