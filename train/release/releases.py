"""The releases of a group: publish bundles, widen a wave, take a release back."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from monitor.bundle import Bundle, load_bundle
from monitor.errors import BundleError, UsageError
from monitor.events.event import rfc3339
from monitor.releases.archive import pack
from monitor.releases.index import (
    MAX_BYTES,
    MAX_RELEASES,
    Assignment,
    Index,
    Release,
    archive_path,
    index_path,
    names_of,
    read_index,
)
from train.release.repository import MAX_BYTES as MAX_METADATA_BYTES
from train.release.repository import ReleaseError, Repository

SIGNATURES_BYTES = 10_000  # of a group's metadata, at most
Adapted = Literal["keep", "replace"]


def read_releases(repository: Repository, group: str) -> Index:
    """The index of a group. ReleaseError if there is no such group."""
    if group not in repository.groups:
        raise ReleaseError(f"{repository.folder} has no group {group}; it has {', '.join(repository.groups) or 'none'}")
    content = repository.read_target(group, index_path(group))
    try:
        return Index(group=group) if content is None else read_index(content, group)
    except BundleError as error:
        raise ReleaseError(f"{error}; to begin with none: train release rotate {repository.folder} {group} --empty") from error


def publish(
    repository: Repository,
    group: str,
    bundles: Mapping[Path, Sequence[str]],
    *,
    name: str | None = None,
    wave: float = 1.0,
    adapted: Adapted = "keep",
    allows_base: bool = False,
    now: datetime | None = None,
) -> Release:
    """Release bundles to machines, given as `NODE/MACHINE` for each folder. Every bundle is loaded and checked first."""
    index = read_releases(repository, group)
    taken = {one.name for one in index.releases}
    number = index.releases[-1].number + 1 if index.releases else 1
    while name is None and f"r{number:04d}" in taken:
        number += 1
    release_name = name or f"r{number:04d}"
    named: set[str] = set()
    for machine in (one for machines in bundles.values() for one in machines):
        if machine in named:
            raise UsageError(f"a machine must be named once, but {machine} is named twice")
        named.add(machine)
    if release_name in taken:
        raise UsageError(f"--name must be new, but {group} has a release {release_name}")
    assignments = []
    for folder, machines in bundles.items():
        bundle: Bundle = load_bundle(folder)
        if bundle.is_base and not allows_base:
            raise UsageError(
                f"{folder} is a base bundle, which detects nothing until a machine has learned; to release it: --base"
            )
        assigned = Assignment(machines=tuple(machines), name=bundle.manifest.name, digest=bundle.digest)
        repository.add_target(group, archive_path(group, assigned), pack(folder))
        assignments.append(assigned)
    release = Release(
        number=number,
        name=release_name,
        published=rfc3339(now or datetime.now(timezone.utc)),
        wave=wave,
        adapted=adapted,
        bundles=tuple(assignments),
    )
    _write(repository, index.model_copy(update={"releases": (*index.releases, release)}))
    return release


def widen(repository: Repository, group: str, name: str, wave: float) -> Release:
    """Let a larger share of the machines use a release."""

    def change(release: Release) -> Release:
        if release.withdrawn:
            raise UsageError(f"{name} was taken back: publish a new release instead")
        if wave <= release.wave:
            raise UsageError(f"the wave must exceed that of {name} ({release.wave:.4g}), got {wave:.4g}; to take it back: revoke")
        return release.model_copy(update={"wave": wave})

    return _change(repository, group, name, change)


def revoke(repository: Repository, group: str, name: str) -> Release:
    """Take a release back, so that its machines are to use the one before again."""

    def change(release: Release) -> Release:
        if release.withdrawn:
            raise UsageError(f"{name} was already taken back")
        return release.model_copy(update={"withdrawn": True})

    return _change(repository, group, name, change)


def find(index: Index, name: str) -> Release:
    """The release of this name; UsageError if there is none."""
    found = next((one for one in index.releases if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in index.releases[-10:]) or "none"
        raise UsageError(f"{index.group} has no release {name}; the latest are {known}")
    return found


def _change(repository: Repository, group: str, name: str, change: Callable[[Release], Release]) -> Release:
    index = read_releases(repository, group)
    changed = change(find(index, name))
    releases = tuple(changed if one.name == name else one for one in index.releases)
    _write(repository, index.model_copy(update={"releases": releases}))
    return changed


def _write(repository: Repository, index: Index) -> None:
    content = _fitted(repository, index)
    read_index(content, index.group)
    repository.add_target(index.group, index_path(index.group), content)
    repository.save(index.group)
    repository.commit()


def _fitted(repository: Repository, index: Index) -> bytes:
    """The file, without as many of the oldest releases that no machine needs as are too many for the nodes. Changes the targets.

    ReleaseError if it is too large without them.
    """
    releases = list(index.releases)
    while True:
        archives = {archive_path(index.group, one) for release in releases for one in release.bundles}
        repository.keep_targets(index.group, {index_path(index.group), *archives})
        content = index.model_copy(update={"releases": tuple(releases)}).content()
        n_bytes = repository.n_bytes(index.group)
        if len(releases) <= MAX_RELEASES and len(content) <= MAX_BYTES and n_bytes <= MAX_METADATA_BYTES - SIGNATURES_BYTES:
            return content
        dropped = _not_needed(releases)
        if dropped is None:
            raise ReleaseError(
                f"{index.group}: too many releases or bundles: {len(releases)} releases (at most {MAX_RELEASES}) of "
                f"{len(content) / 1e6:.1f} MB (at most {MAX_BYTES / 1e6:g} MB), list of bundles {n_bytes / 1e6:.1f} MB (at most "
                f"{MAX_METADATA_BYTES / 1e6:g} MB); widen a newer release to 100%, revoke old ones, or divide the group"
            )
        releases.remove(dropped)


def _not_needed(releases: Sequence[Release]) -> Release | None:
    """The oldest release whose machines all have a newer one, otherwise the oldest that was taken back. Never the newest."""
    covered: set[str] = set()
    replaced: list[Release] = []
    for release in reversed(releases):
        machines = [one for assigned in release.bundles for one in assigned.machines]
        if covered and all(not names_of(*one.split("/")).isdisjoint(covered) for one in machines):
            replaced.append(release)
        if release.wave == 1.0 and not release.withdrawn:
            covered.update(machines)
    if replaced:
        return replaced[-1]
    return next((one for one in releases[:-1] if one.withdrawn), None)
