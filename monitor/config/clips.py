"""The section `clips`: recorded sound and pictures of events."""

from typing import Annotated

from pydantic import Field

from monitor.config.fields import Section


class ClipsConfig(Section):
    """Sound and a picture of every event, in the folder `clips` of `state_dir`."""

    enabled: bool = True
    """Whether clips and pictures are stored."""

    max_mb: Annotated[float, Field(ge=1, le=100_000)] = 100.0
    """Total size in megabytes; the oldest are deleted first."""

    pre_s: Annotated[float, Field(ge=0, le=60)] = 5.0
    """Seconds of sound before the start of the anomaly."""

    post_s: Annotated[float, Field(ge=0, le=60)] = 5.0
    """Seconds of sound after its end."""

    max_s: Annotated[float, Field(ge=5, le=120)] = 30.0
    """Maximum length of a clip in seconds; this much sound per machine is held in memory."""
