"""Before an hour of training: is the place to write to usable, and is the sound sound?"""

from collections.abc import Sequence
from pathlib import Path

from monitor.bundle.manifest import MANIFEST
from monitor.core.errors import BundleError, SourceError
from train.datasets import Clip
from train.datasets.survey import Heard, survey

MOST_CLIPPED = 0.1  # of a recording


def check_place(out: Path) -> None:
    """The folder may be written or replaced; else BundleError, or OSError of the system."""
    if out.exists() and not (out / MANIFEST).is_file():
        raise BundleError(f"{out}: must be a new folder or a bundle to replace, got something else")
    out.parent.mkdir(parents=True, exist_ok=True)


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
