"""The section `update`: bundles from a signed repository (`monitor update`)."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from monitor.config.fields import ConfigPath, Section, Slug

Url = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[!\"$->A-~]+$", max_length=500),
    Field(
        json_schema_extra={
            "patternErrorMessage": "must be an address such as https://plant.example/releases, without user:password@, ? and #"
        }
    ),
]


class UpdateConfig(Section):
    """Bundles from a signed repository, which `train release` makes."""

    url: Url | None = None
    """Address of the repository; null: none."""

    group: Slug = "plant"
    """The group of this node in the repository."""

    root: ConfigPath = Path("/etc/stethos/release-root.json")
    """Trusted root of the repository, written by `monitor update --trust`."""

    shadow_s: Annotated[float, Field(ge=0, le=3_600)] = 180.0
    """Seconds of live sound that the old and the new bundle score before the change; 0: none."""

    require_shadow: bool = False
    """Whether a bundle waits until there is sound to compare; false: without sound it is installed nevertheless."""

    trial_h: Annotated[float, Field(ge=0, le=720)] = 24.0
    """Hours after a change in which an alarm of the new bundle that the old one does not share undoes it; 0: none."""

    timeout_s: Annotated[float, Field(ge=1, le=3_600)] = 300.0
    """Maximum duration of a download, in seconds."""

    state_dir: ConfigPath | None = None
    """Folder of installed bundles; null: systemd's (/var/lib/stethos-update), else $XDG_STATE_HOME/stethos-update."""
