"""Bundles that were installed by `monitor update` or `monitor install-bundle`, and are used in place of the configured ones.

`UPDATE/machines/MACHINE/installed.json` names the bundle in use, a folder next to it. The file is replaced atomically.
"""

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from monitor.events.event import MOMENT
from monitor.files import read_regular, user_state_dir

if TYPE_CHECKING:
    from monitor.config.settings import Config

log = logging.getLogger(__name__)
MACHINES, INSTALLED = "machines", "installed.json"
MAX_BYTES = 100_000
MAX_REFUSED = 20
MAX_FILE_BYTES = 100_000_000  # of a bundle, more than any that is installed
SERVICE_DIR = Path("/var/lib/stethos-update")
FolderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,200}$")]
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$")]
Moment = Annotated[str, StringConstraints(pattern=MOMENT)]


class Change(BaseModel):
    """A bundle that is or was in use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: FolderName | None = None
    """The bundle's folder; None: the configured bundle."""

    bundle: Line | None = None
    """Its name and content hash."""

    release: Line | None = None
    """The release it came with; None: the configured one, or one of `monitor install-bundle`."""

    since: Moment | None = None


class Installed(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    current: Change = Change()
    previous: Change | None = None
    """In use before; None: nothing can be undone."""

    trial_until: Moment | None = None
    """Until then, an alarm of the current bundle that the previous one does not share undoes the change."""

    refused: Annotated[dict[Line, Line], Field(max_length=MAX_REFUSED)] = {}
    """The reason why a bundle is not installed again, by the release and the bundle, oldest first."""


def update_folder(config: "Config") -> Path:
    """The folder of installed bundles."""
    if config.update.state_dir is not None:
        return config.update.state_dir
    if SERVICE_DIR.is_dir() or os.geteuid() == 0:
        return SERVICE_DIR
    return user_state_dir(os.environ, "stethos-update") or SERVICE_DIR


def machine_folder(folder: Path, machine: str) -> Path:
    """The folder with the bundles of a machine."""
    return folder / MACHINES / machine


def read_installed(folder: Path, machine: str) -> Installed:
    """The bundle in use and the one before. A file that cannot be used is logged and counts as empty."""
    return find_installed(folder, machine) or Installed()


def find_installed(folder: Path, machine: str) -> Installed | None:
    """The bundle in use and the one before; None, and a line in the log, if the file cannot be used."""
    path = machine_folder(folder, machine) / INSTALLED
    try:
        return Installed.model_validate_json(read_regular(path, max_bytes=MAX_BYTES, within=folder))
    except (FileNotFoundError, NotADirectoryError):
        return Installed()
    except PermissionError:
        log.warning("%s: may not be read, using the configured bundle", path)
    except OSError as error:
        log.error("%s: cannot be read, using the configured bundle: %s", path, error.strerror)
    except ValidationError as error:
        log.error("%s: is damaged, using the configured bundle: %s", path, error.errors()[0]["msg"])
    return None


def with_installed(config: "Config") -> "Config":
    """The configuration with the installed bundles in place of the configured ones.

    In place of a damaged one, the one before is used, or else the configured one.
    """
    folder, machines = update_folder(config), dict(config.machines)
    for name, settings in config.machines.items():
        installed = read_installed(folder, name)
        for change in (installed.current, installed.previous):
            if change is None or change.folder is None:
                break
            path = machine_folder(folder, name) / change.folder
            if (problem := damage(path)) is None:
                machines[name] = settings.model_copy(update={"bundle": path})
                break
            log.error("machines.%s: %s is not used: %s; run: sudo monitor update", name, change.bundle, problem)
    return config if machines == config.machines else config.model_copy(update={"machines": machines})


def damage(folder: Path) -> str | None:
    """Which file of an installed bundle is not the one that was installed, without loading it; None if none is."""
    path = folder / "manifest.json"
    try:
        content = read_regular(path, max_bytes=MAX_FILE_BYTES, within=folder)
        if not folder.name.endswith(f"-{hashlib.sha256(content).hexdigest()[:12]}"):
            return f"{path} is damaged"
        manifest = json.loads(content)
        for ref in (manifest["model"], manifest["detector"].get("statistics")):
            if ref is not None:
                path = folder / ref["file"]
                if hashlib.sha256(read_regular(path, max_bytes=MAX_FILE_BYTES, within=folder)).hexdigest() != ref["sha256"]:
                    return f"{path} is damaged"
    except PermissionError:
        return None  # the command that needs it reports this
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{path} is not a manifest"
    return None
