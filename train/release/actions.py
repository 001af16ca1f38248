"""The actions of `train release`: from its arguments to the repository, and the lines that it prints."""

import argparse
import getpass
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from monitor.errors import StethosError, UsageError
from monitor.files import atomic_write, read_regular
from monitor.releases.index import MACHINES, Release
from train.release.alarms import check_alarms
from train.release.keys import Keys
from train.release.releases import Adapted, find, publish, read_releases, revoke, widen
from train.release.repository import METADATA, Repository, create_repository, open_repository, read_repository
from train.release.roles import EXPIRES_DAYS, GROUP_EXPIRES_DAYS, ONLINE, ROLES, THRESHOLDS
from train.release.rotation import rotate
from train.release.status import expiring, indexes, lines

MAX_PASSPHRASE = 1_000
_MACHINE_AND_FOLDER = re.compile(rf"({MACHINES})=(.+)", re.DOTALL)


def run(arguments: argparse.Namespace) -> None:
    """Carry out an action."""
    default = default_keys(arguments.folder)
    folders = arguments.keys or [default]
    if arguments.action != "init" and default.is_dir():
        folders = [default, *folders]
    for folder in folders:
        if folder.resolve().is_relative_to(arguments.folder.resolve()):
            raise UsageError(f"--keys must not be in the repository, which is served to everybody, got {folder}")
    if arguments.action == "init":
        _init(arguments, folders)
        return
    keys = Keys(folders, passphrase=_passphrase(arguments, folders))
    if arguments.action == "status":
        _status(read_repository(arguments.folder, keys), arguments)
        return
    with open_repository(arguments.folder, keys) as repository:
        _ACTIONS[arguments.action](repository, arguments)


def default_keys(folder: Path) -> Path:
    """The folder of the keys next to the repository."""
    return folder.resolve().with_name(f"{folder.resolve().name}-keys")


def _init(arguments: argparse.Namespace, folders: Sequence[Path]) -> None:
    if (arguments.folder / METADATA / "1.root.json").exists():  # written last
        raise UsageError(f"{arguments.folder} is a repository already; train release status shows it")
    groups = arguments.group or ["plant"]
    if twice := [one for one in groups if groups.count(one) > 1]:
        raise UsageError(f"--group must be given once for each group, got {twice[0]} twice")
    online, offline = folders[0], arguments.offline_keys or [folders[0]]
    for folder in offline:
        if folder.resolve().is_relative_to(arguments.folder.resolve()):
            raise UsageError(f"--offline-keys must not be in the repository, got {folder}")
    passphrase = _new_passphrase(arguments)
    keys = Keys([online, *offline], passphrase=passphrase)
    counts = THRESHOLDS | {name: (m, n) for name, m, n in arguments.threshold}
    expires = EXPIRES_DAYS | dict(arguments.expires)
    signers = {
        name: [
            keys.create(name, online if name in ONLINE else offline[n % len(offline)], encrypts=name not in ONLINE)
            for n in range(counts[name][1])
        ]
        for name in ROLES
    }
    thresholds = {name: m for name, (m, _) in counts.items()}
    with create_repository(arguments.folder, keys, signers, thresholds=thresholds, expires_days=expires) as repository:
        for group in groups:
            signer = keys.create(group, online, encrypts=True)
            repository.add_group(group, [signer], threshold=1, expires_days=GROUP_EXPIRES_DAYS)
    root = arguments.folder / METADATA / "1.root.json"
    for folder in keys.folders:
        atomic_write(folder / "root.json", root.read_bytes())
    places = ", ".join(map(str, offline))
    print(f"made {arguments.folder}; keys of snapshot, timestamp and the groups: {online}; of root and targets: {places}")
    print(f"next: install {root} on every node: monitor update --trust 1.root.json")


def _group(repository: Repository, arguments: argparse.Namespace) -> None:
    if arguments.group in repository.groups:
        raise UsageError(f"{arguments.folder} has a group {arguments.group} already")
    signer = repository.keys.create(arguments.group, repository.keys.folders[0], encrypts=True)
    repository.add_group(arguments.group, [signer], threshold=1, expires_days=arguments.expires)
    repository.commit()
    print(f"added {arguments.group}; its key: {signer.public_key.keyid[:16]} in {repository.keys.folders[0]}")


def _publish(repository: Repository, arguments: argparse.Namespace) -> None:
    group = _the_group(repository, arguments.group)
    pairs = [_MACHINE_AND_FOLDER.fullmatch(text) for text in arguments.bundles]
    bundles: dict[Path, list[str]] = {}
    if all(pairs) and arguments.machine is None:
        for pair in filter(None, pairs):
            bundles.setdefault(Path(pair[2]), []).append(pair[1])
    elif len(pairs) == 1 and pairs[0] is None:
        bundles[Path(arguments.bundles[0])] = _machines_of(arguments.machine)
    else:
        raise UsageError("BUNDLE must be one folder, with --machine for its machines, or NODE/MACHINE=FOLDER for each machine")
    adapted: Adapted = "replace" if arguments.replace_adapted else "keep"
    release = publish(
        repository,
        group,
        bundles,
        name=arguments.name,
        wave=arguments.wave,
        adapted=adapted,
        allows_base=arguments.base,
    )
    for assigned in release.bundles:
        machines = f"{', '.join(assigned.machines[:5])}{_more(assigned.machines)}"
        print(f"released {assigned.bundle} as {release.name} to {group}: {machines}")
    _print_wave(release)


def _wave(repository: Repository, arguments: argparse.Namespace) -> None:
    group = _the_group(repository, arguments.group)
    release = find(read_releases(repository, group), arguments.name)
    if arguments.alarms is not None:
        limits = {"max_per_day": arguments.max_alarms, "min_hours": arguments.min_hours}
        print(check_alarms(arguments.alarms, release, group=group, **limits))
    else:
        print("warning: the alarms of the first wave were not checked (--alarms FILE)", file=sys.stderr)
    _print_wave(widen(repository, group, arguments.name, arguments.wave))


def _revoke(repository: Repository, arguments: argparse.Namespace) -> None:
    group = _the_group(repository, arguments.group)
    release = revoke(repository, group, arguments.name)
    print(
        f"took back {release.name}: its machines return to the release before at their next update, or to the configured bundle"
    )


def _refresh(repository: Repository, arguments: argparse.Namespace) -> None:
    for name in arguments.role:
        repository.role(name)  # refuse unknown ones before anything is written
        if name in ONLINE:
            continue
        if name == "root":
            repository.save_root()
        else:
            repository.save(name)
    repository.commit()
    for name in (*arguments.role, *ONLINE):
        print(f"{name}: expires on {repository.metadata(name).signed.expires:%Y-%m-%d %H:%M} UTC")


def _rotate(repository: Repository, arguments: argparse.Namespace) -> None:
    role, out = arguments.role, arguments.out
    if out is not None and out.resolve().is_relative_to(arguments.folder.resolve()):
        raise UsageError(f"--out must not be in the repository, got {out}")
    if arguments.empty:
        repository.forget_releases(role)
    old = repository.keys.places(role, repository.role(role).keyids)
    new = rotate(repository, role, out=out, replaced=arguments.key, hardware=arguments.hsm)
    for key_id, path in repository.keys.places(role, [signer.public_key.keyid for signer in new]).items():
        print(f"{role}: new key {path or key_id[:16]}")
    if not new:
        print(f"{role}: completed the rotation that was interrupted")
    print("the old keys are worthless from the nodes' next update on")
    for key_id, path in old.items():
        if path is not None and key_id not in repository.role(role).keyids:
            print(f"delete {path}")


def _status(repository: Repository, arguments: argparse.Namespace) -> None:
    for line in lines(repository, shows_all=arguments.all):
        print(line)
    found = [f"{group} cannot be read" for group, index in indexes(repository).items() if isinstance(index, StethosError)]
    if expires := expiring(repository, arguments.days):
        found.append(f"expires soon: {'; '.join(expires)}")
    if found:
        raise StethosError("; ".join(found))


_ACTIONS: dict[str, Callable[[Repository, argparse.Namespace], None]] = {
    "group": _group,
    "publish": _publish,
    "wave": _wave,
    "revoke": _revoke,
    "refresh": _refresh,
    "rotate": _rotate,
}


def _the_group(repository: Repository, name: str | None) -> str:
    if name is None and len(repository.groups) != 1:
        raise UsageError(f"--group must be one of {', '.join(repository.groups) or 'none'}, got none")
    return name or next(iter(repository.groups))


def _print_wave(release: Release) -> None:
    named = sorted({one for assigned in release.bundles for one in assigned.machines if "*" not in one})
    chosen = [one for one in named if release.in_wave(*one.split("/"))]
    if release.wave == 1.0:
        print(f"{release.name}: all of these machines")
    elif named:
        machines = ", ".join(chosen[:10]) or "none of those named"
        print(f"{release.name}: {release.wave:.4g} of the machines: {machines}{_more(chosen, 10)}")
    else:
        print(f"{release.name}: {release.wave:.4g} of the machines, always the same ones")


def _more(items: Sequence[str], shown: int = 5) -> str:
    return f" and {len(items) - shown} more" if len(items) > shown else ""


def _new_passphrase(arguments: argparse.Namespace) -> bytes | None:
    if arguments.passphrase_file is not None:
        return _read_passphrase(arguments.passphrase_file)
    if not arguments.passphrase:
        return None
    first = getpass.getpass("passphrase of the keys: ")
    if not first or getpass.getpass("again: ") != first:
        raise UsageError("the passphrase must be entered twice, and not be empty")
    return first.encode()


def _passphrase(arguments: argparse.Namespace, folders: Sequence[Path]) -> bytes | None:
    """The passphrase, if an encrypted key is here. A timer has no terminal and needs keys that are not encrypted."""
    if arguments.passphrase_file is not None:
        return _read_passphrase(arguments.passphrase_file)
    if arguments.action in ("status", "refresh") and not getattr(arguments, "role", None):
        return None
    found = [path for folder in folders for path in sorted(folder.glob("*.pem")) if b"ENCRYPTED" in path.read_bytes()[:100]]
    return getpass.getpass("passphrase of the keys: ").encode() if found and sys.stdin.isatty() else None


def _read_passphrase(path: Path) -> bytes:
    try:
        text = read_regular(path, max_bytes=MAX_PASSPHRASE).rstrip(b"\r\n")
    except OSError as error:
        raise StethosError(f"{path}: cannot be read: {error.strerror}") from error
    if not text:
        raise UsageError(f"--passphrase-file must contain a passphrase, but {path} is empty")
    return text


def _machines_of(texts: Sequence[str] | None) -> list[str]:
    """The machines of each --machine; by default all."""
    if texts is None:
        return ["*/*"]
    machines = [one.strip() for text in texts for one in text.split(",")]
    for one in machines:
        if not re.fullmatch(MACHINES, one):
            raise UsageError(f"--machine must be NODE/MACHINE of a-z, 0-9, _ and -, or *, got {one!r}")
    return machines
