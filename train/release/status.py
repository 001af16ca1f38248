"""The state of a repository in words: keys, expiries and releases, and what will expire soon."""

from collections.abc import Iterator
from datetime import datetime, timezone

from monitor.errors import StethosError
from monitor.learning.report_text import count
from monitor.releases.index import Index, Release
from train.release.releases import read_releases
from train.release.repository import Repository
from train.release.roles import ONLINE, ROLES

OFFLINE_DAYS, ONLINE_DAYS = 30, 2
SHOWN = 5  # releases of each group


def indexes(repository: Repository) -> dict[str, Index | StethosError]:
    """The releases of each group, or the reason why they cannot be read."""

    def read(group: str) -> Index | StethosError:
        try:
            return read_releases(repository, group)
        except StethosError as error:
            return error

    return {group: read(group) for group in repository.groups}


def lines(repository: Repository, *, shows_all: bool = False) -> Iterator[str]:
    """One line for each role, and for each of the latest releases, or of all."""
    for name in (*ROLES, *repository.groups):
        signed, role = repository.metadata(name).signed, repository.role(name)
        places = repository.keys.places(name, role.keyids)
        here = sum(path is not None for path in places.values())
        keys = ", ".join(one[:16] + ("" if path is None else " (here)") for one, path in places.items())
        needs = f"needs {role.threshold} of {len(places)} keys, {here} here: {keys}"
        yield f"{name}: version {signed.version}, {_expiry(signed.expires)}; {needs}"
    for group, index in indexes(repository).items():
        if isinstance(index, StethosError):
            yield f"{group}: {index}"
            continue
        shown = index.releases if shows_all else index.releases[-SHOWN:]
        more = f", the latest {SHOWN} (--all shows all):" if len(index.releases) > len(shown) else ""
        yield f"{group}: {count(len(index.releases), 'release')}{more}"
        yield from (f"  {_in_words(release)}" for release in shown)


def expiring(repository: Repository, days: float | None) -> list[str]:
    """One line for each role that expires within some days; by default 30, and 2 for snapshot and timestamp."""
    found = []
    for name in (*ROLES, *repository.groups):
        limit = (ONLINE_DAYS if name in ONLINE else OFFLINE_DAYS) if days is None else days
        expires = repository.metadata(name).signed.expires
        if _days_left(expires) < limit:
            role = "" if name in ONLINE else f" --role {name}"
            found.append(f"{name} {_expiry(expires)}: train release refresh{role}")
    return found


def _in_words(release: Release) -> str:
    state = "taken back" if release.withdrawn else "all machines" if release.wave == 1 else f"wave {release.wave:.4g}"
    bundles = "; ".join(f"{one.bundle} for {_machines(one.machines)}" for one in release.bundles[:3])
    more = f"; and {len(release.bundles) - 3} more bundles" if len(release.bundles) > 3 else ""
    adapted = ", also where the machine has learned" if release.adapted == "replace" else ""
    return f"{release.name} of {release.published[:10]}: {state}{adapted}: {bundles}{more}"


def _machines(machines: tuple[str, ...]) -> str:
    return ", ".join(machines[:3]) + (f" and {len(machines) - 3} more" if len(machines) > 3 else "")


def _expiry(expires: datetime) -> str:
    left = _days_left(expires)
    return f"expired on {expires:%Y-%m-%d}" if left < 0 else f"expires on {expires:%Y-%m-%d}, in {count(round(left), 'day')}"


def _days_left(expires: datetime) -> float:
    at = expires if expires.tzinfo else expires.replace(tzinfo=timezone.utc)
    return (at - datetime.now(timezone.utc)).total_seconds() / 86_400
