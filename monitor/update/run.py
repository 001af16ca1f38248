"""One run of `monitor update`: end or undo trials, fetch the releases, and install those that are due."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from monitor.config import Config
from monitor.config.installed import Change, Installed
from monitor.errors import BundleError, StethosError
from monitor.releases.index import Assignment, Index, Release
from monitor.update.errors import Refusal
from monitor.update.machine import Kept, MachineUpdate, Offer, refusal_key
from monitor.update.service import Service

log = logging.getLogger(__name__)
Fetch = Callable[[str, Assignment], bytes]  # the archive of a group's bundle


@dataclass(frozen=True)
class Outcome:
    """The outcome for one machine."""

    machine: str
    words: str
    status: int  # as an exit status


def check_trials(config: Config, folder: Path) -> list[Outcome]:
    """Judge the bundles on trial. This needs no network."""
    service = Service(config.runtime_dir)

    def check(name: str) -> str | None:
        return MachineUpdate(config, folder, name, service).check_trial()

    return [one for name in config.machines if (one := _outcome(name, check)) is not None]


def install_releases(config: Config, folder: Path, index: Index, fetch: Fetch) -> list[Outcome]:
    """Install the release that each machine is to use. One machine's failure does not affect the others."""
    service = Service(config.runtime_dir)

    def update(name: str) -> str:
        return _update(MachineUpdate(config, folder, name, service), config.node, name, index, fetch)

    return [one for name in config.machines if (one := _outcome(name, update)) is not None]


def _outcome(name: str, action: Callable[[str], str | None]) -> Outcome | None:
    """The result of an action, or its error; None if there is nothing to report."""
    try:
        words = action(name)
    except Kept as kept:
        return Outcome(name, str(kept), 0)
    except StethosError as error:
        return Outcome(name, str(error), error.exit_status)
    return None if words is None else Outcome(name, f"{name}: {words}", 0)


def _update(machine: MachineUpdate, node: str, name: str, index: Index, fetch: Fetch) -> str:
    installed = machine.installed()
    current = installed.current
    is_return = current.release in {release.name for release in index.releases if release.withdrawn}
    desired = _not_refused(index, node, name, installed) if is_return else index.desired(node, name)
    if desired is None:
        if is_return:
            return machine.return_to_configured()
        return "no release for this machine"
    release, assigned = desired
    is_damaged = current.bundle == assigned.bundle and not machine.is_intact()
    if current.bundle == assigned.bundle and not is_damaged:
        machine.rename(release.name)
        return f"{assigned.bundle} of {release.name} is in use"
    key = _key(release, assigned)
    if key in installed.refused:
        return f"{assigned.bundle} is not tried again: {installed.refused[key]}"
    if release.adapted == "keep" and not is_return and not is_damaged:
        machine.check_adapted()
    what = f"{assigned.bundle} of {release.name}"
    offer = Offer(fetch(index.group, assigned), what, assigned.digest, release.name, is_return=is_return)
    try:
        return f"{release.name}: {machine.install(offer)}"
    except (Refusal, BundleError) as error:
        machine.refuse(key, f"{release.name}: {error}")
        raise


def _not_refused(index: Index, node: str, name: str, installed: Installed) -> tuple[Release, Assignment] | None:
    """The newest release for a machine whose bundle it has not refused."""
    while (found := index.desired(node, name)) is not None and _key(*found) in installed.refused:
        older = tuple(one for one in index.releases if one.number < found[0].number)
        index = index.model_copy(update={"releases": older})
    return found


def _key(release: Release, assigned: Assignment) -> str:
    return refusal_key(Change(bundle=assigned.bundle, release=release.name))
