"""The content of `complete.json`: what the page and later steps need of a bundle, a report and the scores of a machine."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from monitor.bundle.manifest import one_line
from monitor.errors import SinkError
from train.fleet.places import COMPLETE, Store

Key = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, StringConstraints(max_length=1000)]
LATEST = "latest.json"  # names the bundle that belongs to the recordings now
FIT_NUMBERS = {"n_recordings", "hours", "n_anomaly"}  # of a bundle, for the steps after it
Summary = TypeVar("Summary", bound="_Summary")


class _Summary(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    machine: Text
    key: Key


class Latest(_Summary):
    """Which bundle belongs to the plan and the recordings now; `bundle` is its folder in the output."""

    bundle: Text


class Fitted(_Summary):
    """A bundle. `spectrum_db` is the mean normal frame, (n_bands,), dB; it compares with those of an equal `front_end`."""

    recipe: Text
    n_recordings: Count
    n_anomaly: Count  # recordings of faults
    n_sessions: Count
    hours: Number
    is_enough: bool  # for more than severe faults
    promised_per_week: Number | None
    promised_alarms_per_week: Number | None
    bound_95_per_week: Number | None
    score_mean: Number | None
    score_std: Number | None
    front_end: Text
    spectrum_db: Annotated[tuple[Number, ...], Field(min_length=1, max_length=10_000)]
    warnings: Annotated[tuple[Text, ...], Field(max_length=100)]


class Evaluated(_Summary):
    """A report: recordings of faults found and missed, normal ones that were false alarms, and the area under the curve."""

    auc: Number | None
    found: Count
    missed: Count
    false_alarms: Count
    n_normal: Count
    verdict: Text


class Day(BaseModel):
    """The scores of one day."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    day: Text
    hours: Number
    median_score: Number | None
    median_ratio: Number | None


class Scored(_Summary):
    """The scores of a machine by day, in order."""

    days: Annotated[tuple[Day, ...], Field(max_length=100_000)]


def read_summary(store: Store, folder: str, kind: type[Summary], *, file: str = COMPLETE) -> Summary | None:
    """The summary of a finished folder; None if it is not finished. SinkError if it is damaged."""
    name = f"{folder}/{file}"
    content = store.read(name)
    if content is None:
        return None
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise SinkError(f"{store.path(name)}: {one_line(error)}; delete {store.path(folder)} and run again") from error
