"""The section `clips`: what is kept of an event to listen to and to look at."""

from typing import Annotated

from pydantic import Field

from monitor.config.fields import Section


class ClipsConfig(Section):
    """Sound and a picture of every event, in the folder `clips` of `state_dir`."""

    enabled: bool = True
    """Whether they are kept."""

    max_mb: Annotated[float, Field(ge=1, le=100_000)] = 100.0
    """How many megabytes of them; the oldest make room."""

    pre_s: Annotated[float, Field(ge=0, le=60)] = 5.0
    """How much sound is kept from before the anomaly began, in seconds,"""

    post_s: Annotated[float, Field(ge=0, le=60)] = 5.0
    """how much from after it ended,"""

    max_s: Annotated[float, Field(ge=5, le=120)] = 30.0
    """and how much in all, at most; so much sound per machine is held in memory."""
