"""The values that tasks carry: paths, hashes and numbers."""

import hashlib
import json
from importlib.metadata import version
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from train.fitting.manifest import versions

Step = Literal["inspect", "fit", "evaluate", "rescore"]
STEPS: tuple[Step, ...] = ("inspect", "fit", "evaluate", "rescore")
Status = Literal["done", "kept", "skipped", "failed"]  # kept: it was there already
_ALSO = ("keras", "scipy", "scikit-learn")  # they shape a bundle, which does not name them


def software() -> dict[str, str]:
    """The versions of all that determines the bytes of a bundle."""
    import soundfile

    return {**versions(), **{name: version(name) for name in _ALSO}, "libsndfile": str(soundfile.__libsndfile_version__)}


class Job(BaseModel):
    """One machine, with everything that determines its bundle but the recordings and the versions of libraries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine: str
    recordings: str  # folder or URL
    group: str
    recipe_name: str
    recipe: dict[str, Any]  # as written in its file
    layout: str | None
    channel: int | None
    seed: int
    memory_mb: int
    timeout_s: int

    def key(self, recordings: str, versions: dict[str, str]) -> str:
        """The name of the result: a hash of all that determines it, given the hash of the recordings."""
        content = self.model_dump(exclude={"recordings", "group", "memory_mb", "timeout_s"})
        whole = {"format": 1, **content, "sound": recordings, "versions": versions}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]


class Common(BaseModel):
    """The values that all tasks of a run share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: str
    storage: dict[str, Any]
    versions: dict[str, str]  # of the command's computer
    source_date_epoch: str | None = None


class Done(BaseModel):
    """The outcome of one step of one machine: one line of JSON for other programs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine: str
    step: Step
    status: Status
    key: str | None = None
    error: str | None = None  # one line
    detail: str = ""  # the end of the log, for a bug report
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    worker: str = ""
    numbers: dict[str, Any] = {}

    def line(self) -> dict[str, Any]:
        """The keys that have a value."""
        return self.model_dump(mode="json", exclude_defaults=True)
