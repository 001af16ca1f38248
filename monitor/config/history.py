"""The section `history`: events and scores of the past, on disk."""

from typing import Annotated

from pydantic import Field

from monitor.config.fields import Section


class HistoryConfig(Section):
    """Events, and scores in steps of 10 s, in the file `history.sqlite` of `state_dir`. It is written once an hour."""

    enabled: bool = True
    """Whether they are stored; false: only the latest, in memory."""

    events: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000
    """Maximum number of events; the oldest are deleted first."""

    max_mb: Annotated[float, Field(ge=1, le=100_000)] = 100.0
    """Maximum size of the file in megabytes; the oldest scores are deleted first. A year of a machine takes 12 to 20 MB."""
