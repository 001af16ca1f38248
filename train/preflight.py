"""Before an hour of training: is the sound sound?"""

from collections.abc import Sequence

from monitor.core.errors import SourceError
from train.datasets import Clip
from train.datasets.survey import Heard, survey

MOST_CLIPPED = 0.1  # of a recording


def check_sound(clips: Sequence[Clip], *, channel: int | None) -> list[Heard]:
    """Every clip can be read and holds sound; SourceError names the first that does not, and counts the rest."""
    heard = survey(clips, channel=channel)
    problems = [problem for one in heard if (problem := _problem(one)) is not None]
    if problems:
        more = f" (and {len(problems) - 1} more; see train inspect)" if len(problems) > 1 else ""
        raise SourceError(f"{problems[0]}{more}")
    return heard


def _problem(heard: Heard) -> str | None:
    if heard.error is not None:
        return heard.error
    if heard.silent:
        return f"{heard.clip.path}: must hold sound to train on, got silence"
    share = heard.refused_s.get("clipped", 0.0) / heard.duration_s
    if share > MOST_CLIPPED:
        return f"{heard.clip.path}: must not be clipped to train on, got {share:.0%} of it clipped"
    return None
