"""Adapted bundles: created on this device from configured bundles and used in their place. Adaptations can be undone.

`state_dir/adapted/MACHINE/in-use.json` names the bundles in use, which are folders next to it. The file is replaced atomically.
At most two bundles are based on the configured one: a learned bundle, and a bundle calibrated from it. Learned bundles that were
extended are kept for undo. The state directory belongs to the service's user, so root accesses it with that user's rights.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from monitor.bundle import Bundle, load_bundle
from monitor.bundle.manifest import one_line, read_manifest
from monitor.bundle.trial import load_after_trial
from monitor.bundle.write import write_bundle
from monitor.errors import SinkError, StethosError, UsageError, printable
from monitor.events.event import rfc3339
from monitor.files import as_owner, atomic_write, below, lock, read_regular
from monitor.learning.on_device import AdaptedBundle
from monitor.learning.stored.sessions import STAMP, remove_session

log = logging.getLogger(__name__)
FOLDER = "adapted"
MAX_LOG = 50
MAX_EXTENDED = 10
IN_USE = "in-use.json"
MAX_BYTES = 1_000_000  # of that file
Kind = Literal["learn", "calibrate"]
Did = Literal["learn", "calibrate", "undo"]
FolderName = Annotated[str, StringConstraints(pattern=r"^(learn|calibrate)-[0-9]{8}T[0-9]{12}$")]


class Entry(BaseModel):
    """One adaptation or undo."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ts: str
    did: Did
    said: str


class Adaptation(BaseModel):
    """The adaptations of a configured bundle."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    configured: str
    """Name and hash of the configured bundle. If another bundle is configured, the adaptations are ignored.

    A base bundle that is replaced by one of the same name, as by an upgrade, is not another one.
    """

    learn: FolderName | None = None
    """Folder of the learned bundle."""

    extended: tuple[FolderName, ...] = ()
    """Folders of the learned bundles that it extends, oldest first, the last 10."""

    calibrate: FolderName | None = None
    """Folder of the calibrated bundle, which is then the one in use."""

    log: tuple[Entry, ...] = ()
    """The last 50 adaptations and undos."""

    def is_of(self, configured: Bundle) -> bool:
        """Whether these are adaptations of this bundle."""
        is_upgraded = configured.is_base and self.configured.rpartition("@")[0] == configured.manifest.name
        return is_upgraded or self.configured == configured.id


def in_use(state_dir: Path, machine: str, configured: Bundle, *, tried: Path | None = None) -> Bundle:
    """The adapted bundle if there is a valid one based on `configured`, else `configured`.

    With `tried`, a network that is not that of `configured` is loaded in a child process first (`load_after_trial`).
    """
    return _top(state_dir, machine, configured, ("calibrate", "learn"), tried)


def base_of(state_dir: Path, machine: str, configured: Bundle) -> Bundle:
    """The bundle that a calibration starts from. Never a calibrated one, so that the bounds are relative to training."""
    return _top(state_dir, machine, configured, ("learn",))


def keep(state_dir: Path, machine: str, configured: Bundle, made: AdaptedBundle, *, kind: Kind, extends: bool = False) -> str:
    """Write the bundle, use it from the next start or reload, and return its folder's name. SinkError: nothing has changed.

    If it `extends` a learned bundle, undo restores that bundle.
    """
    name = f"{kind}-{datetime.now(timezone.utc):{STAMP}}"
    with as_owner(state_dir) as here:
        folder, before = _folder(here, machine), _read(here, machine)
        if before is None or not before.is_of(configured):
            before = Adaptation(configured=configured.id, log=() if before is None else before.log)
        try:
            write_bundle(folder / name, made.files, made.manifest)
            changes: dict[str, object] = {"calibrate": name}
            if kind == "learn":
                learned = (*before.extended, before.learn) if extends and before.learn is not None else ()
                changes = {"learn": name, "extended": learned[-MAX_EXTENDED:], "calibrate": None}
            _write(folder, before.model_copy(update=changes), did=kind, said=made.messages[-1])
        except OSError as error:
            shutil.rmtree(folder / name, ignore_errors=True)
            reason = f"{folder / name}: cannot be written: {error.strerror}; the old bundle stays in use"
            raise SinkError(reason) from error
    return name


def undo(state_dir: Path, machine: str, configured: Bundle, *, force: bool = False) -> str:
    """Undo the last adaptation and return a description of the undo. UsageError if there is none.

    Undoing a learned bundle also deletes its session. If nothing learned is left then, UsageError unless `force`.
    """
    with as_owner(state_dir) as here:
        folder, before = _folder(here, machine), _read(here, machine)
        if before is None or before.learn is before.calibrate is None:
            raise UsageError(f"nothing was learned or calibrated here for {machine}")
        what: Kind = "learn" if before.calibrate is None else "calibrate"
        said = f"{'learning' if what == 'learn' else 'calibration'} undone"
        changes: dict[str, object] = {"calibrate": None}
        if what == "learn":
            changes = {"learn": before.extended[-1] if before.extended else None, "extended": before.extended[:-1]}
        after = before.model_copy(update=changes)
        if configured.is_base and after.learn is None and not force:
            raise UsageError(
                f"this would leave nothing learned: {machine} would not be monitored until it has learned again; "
                "give force to undo it anyway"
            )
        try:
            _write(folder, after, did="undo", said=said)
        except OSError as error:
            raise SinkError(f"{folder}: cannot be written: {error.strerror}") from error
        if what == "learn" and before.learn is not None:
            remove_session(here, machine, before.learn)
    return said


@contextmanager
def only_one(state_dir: Path, machine: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Lock the machine against another learn or calibrate; UsageError if one is still running after `wait_s`."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with as_owner(state_dir) as here:
            folder = _folder(here, machine)
            folder.mkdir(parents=True, exist_ok=True)
            held = lock(folder / "lock", wait_s=wait_s)
    except BlockingIOError:
        raise UsageError(
            f"another learn or calibrate is already running for {machine}; end it with Ctrl-C, or if the service learns, with: "
            f"monitor learn --machine {machine} --stop"
        ) from None
    except OSError as error:
        raise SinkError(f"{error.filename}: cannot be written: {error.strerror}; use sudo, or --out") from error
    try:
        yield
    finally:
        os.close(held)


def read_adaptation(state_dir: Path, machine: str) -> Adaptation | None:
    """The adaptations of a machine's bundle; None if there are none."""
    with as_owner(state_dir) as here:
        return _read(here, machine)


def _load(folder: Path, configured: Bundle, tried: Path | None) -> Bundle:
    """Load an adapted bundle. Its network is the configured one, or that of a base bundle which an upgrade has replaced."""
    if not configured.is_base or read_manifest(folder).model.sha256 == configured.manifest.model.sha256:
        return load_bundle(folder, network=configured.model)
    return load_bundle(folder) if tried is None else load_after_trial(folder, tried)


def _top(state_dir: Path, machine: str, configured: Bundle, kinds: tuple[Kind, ...], tried: Path | None = None) -> Bundle:
    try:
        with as_owner(state_dir) as here:
            found = _read(here, machine)
            names = [] if found is None else [name for kind in kinds if (name := getattr(found, kind)) is not None]
            if found is None or not names:
                return configured
            if found.is_of(configured):
                return _load(_folder(here, machine) / names[0], configured, tried)
        reason = f"it was made from {printable(found.configured)[:100]}, but {configured.id} is configured"
        log.warning("%s: ignoring the adapted bundle: %s", machine, reason)
    except StethosError as error:
        log.error("%s: the adapted bundle cannot be used, using the configured one: %s", machine, error)
    return configured


def _read(state_dir: Path, machine: str) -> Adaptation | None:
    path = below(state_dir, FOLDER, machine, IN_USE)
    try:
        return Adaptation.model_validate_json(read_regular(path, max_bytes=MAX_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SinkError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise SinkError(f"{path}: {one_line(error)}") from error


def _write(folder: Path, adaptation: Adaptation, *, did: Did, said: str) -> None:
    """Replace the file, then remove the bundles that are no longer needed."""
    entry = Entry(ts=rfc3339(datetime.now(timezone.utc)), did=did, said=said)
    adaptation = adaptation.model_copy(update={"log": (*adaptation.log, entry)[-MAX_LOG:]})
    atomic_write(folder / IN_USE, adaptation.model_dump_json(indent=2).encode() + b"\n")
    for old in [*os.scandir(folder)]:
        needed = old.name in (adaptation.learn, adaptation.calibrate, *adaptation.extended)
        if not needed and old.is_dir(follow_symlinks=False):
            shutil.rmtree(old.path, ignore_errors=True)


def _folder(state_dir: Path, machine: str) -> Path:
    """The machine's folder. SinkError if it is a link, because folders in it are removed."""
    return below(state_dir, FOLDER, machine)
