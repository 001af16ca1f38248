"""A TUF repository in a folder: its metadata, verified when it is read and signed when it changes.

`metadata/` and `targets/` are what a web server serves. A change writes new files under new names. The last one is
`timestamp.json`, which is replaced, so an interrupted change has no effect and is made again.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from monitor.errors import StethosError, UsageError
from monitor.files import atomic_write, lock, read_regular
from monitor.releases.index import Index, index_path
from train.release.keys import Keys
from train.release.roles import GROUP_EXPIRES_DAYS, ROLES

METADATA, TARGETS = "metadata", "targets"
LOCK_WAIT_S = 60.0
MAX_BYTES = 5_000_000  # of a metadata file
_EXPIRES = "x-stethos-expires-days"  # a key that TUF keeps and signs: the life of the next version
S = TypeVar("S", Root, Timestamp, Snapshot, Targets)


class ReleaseError(StethosError):
    """A repository is damaged, in use, or does not fit what is to be done."""


class Repository:
    """The newest state, changed by `save` and `commit`. Opened by `open_repository` or `create_repository`."""

    def __init__(self, folder: Path, keys: Keys, now: datetime) -> None:
        self.folder = folder
        self.keys = keys
        self._now = now
        self.root: Metadata[Root]
        self.targets: Metadata[Targets]
        self.snapshot: Metadata[Snapshot]
        self.timestamp: Metadata[Timestamp]
        self.groups: dict[str, Metadata[Targets]] = {}
        self.retired: list[Signer] = []  # of keys that are being replaced: they sign once more, with the new ones
        self._changed: dict[str, Metadata[Targets]] = {}

    def role(self, name: str) -> Role:
        """The keys and the threshold of a role. ReleaseError if there is none of that name."""
        if name in ROLES:
            return self.root.signed.roles[name]
        delegations = self.targets.signed.delegations
        if delegations is None or delegations.roles is None or name not in delegations.roles:
            known = ", ".join([*ROLES, *self.groups])
            raise ReleaseError(f"{self.folder} has no role {name}; it must be one of {known}")
        return delegations.roles[name]

    def public_keys(self, name: str) -> Mapping[str, Key]:
        """The public keys of a role by their ids."""
        known = self.root.signed.keys
        if name not in ROLES:
            delegations = self.targets.signed.delegations
            known = {} if delegations is None else delegations.keys
        return {one: known[one] for one in self.role(name).keyids}

    def metadata(self, name: str) -> "Metadata[Root] | Metadata[Targets] | Metadata[Snapshot] | Metadata[Timestamp]":
        """The newest metadata of a role."""
        if name == "root":
            return self.root
        if name == "snapshot":
            return self.snapshot
        if name == "timestamp":
            return self.timestamp
        self.role(name)
        return self.targets if name == "targets" else self.groups[name]

    def read_target(self, group: str, path: str) -> bytes | None:
        """The content of a target, checked; None if the group has none of this path."""
        target = self.groups[group].signed.targets.get(path)
        if target is None:
            return None
        content = _read(self._target_file(target), max_bytes=target.length)
        try:
            target.verify_length_and_hashes(content)
        except RepositoryError as error:
            raise ReleaseError(f"{self._target_file(target)}: is not the signed file: {error}") from error
        return content

    def add_target(self, group: str, path: str, content: bytes) -> None:
        """Add or replace a target of a group; `save` it afterwards."""
        target = TargetFile.from_data(path, content, ["sha256"])
        file = self._target_file(target)
        _make_folders(file.parent)
        if not file.is_file() or file.read_bytes() != content:
            _write_served(file, content)
        self.groups[group].signed.targets[path] = target

    def keep_targets(self, group: str, paths: Collection[str]) -> None:
        """Remove the other targets of a group from its metadata. Their files stay, for nodes that have older metadata."""
        targets = self.groups[group].signed.targets
        self.groups[group].signed.targets = {path: target for path, target in targets.items() if path in paths}

    def forget_releases(self, group: str) -> None:
        """Replace the releases of a group by none, also if they cannot be read; `save` it afterwards."""
        if group not in self.groups:
            raise UsageError(f"--empty needs a group ({', '.join(self.groups)}), got {group}")
        self.keep_targets(group, ())
        self.add_target(group, index_path(group), Index(group=group).content())

    def n_bytes(self, group: str) -> int:
        """The size of a group's metadata with the targets that it has now."""
        return len(_serialized(self.groups[group]))

    def add_group(self, name: str, signers: Iterable[Signer], *, threshold: int, expires_days: int) -> None:
        """Delegate the paths `NAME/…` to new keys. The group has no release yet."""
        signed = self.targets.signed
        if signed.delegations is None:
            signed.delegations = Delegations({}, {})
        assert signed.delegations.roles is not None
        signed.delegations.roles[name] = DelegatedRole(
            name, [], threshold, terminating=True, paths=[f"{name}/*", f"{name}/bundles/*"]
        )
        for signer in signers:
            signed.add_key(signer.public_key, name)
        self.groups[name] = Metadata(_new(Targets(), expires_days))
        self.groups[name].signed.version = 0
        self.add_target(name, index_path(name), Index(group=name).content())
        self.save("targets")
        self.save(name)

    def save_root(self) -> None:
        """Write the next version of the root, signed by its keys and by those it replaces (`retired`)."""
        self._renew(self.root.signed)
        self._sign("root", self.root)
        self._write("root", self.root)

    def save(self, name: str) -> None:
        """Sign the next version of the targets or of a group; `commit` publishes it."""
        metadata = self.targets if name == "targets" else self.groups[name]
        if name not in self._changed:
            self._renew(metadata.signed)
        self._changed[name] = metadata

    def check_signers(self, *names: str) -> None:
        """KeyProblem if a key of these roles is missing."""
        for name in names:
            self._signers(name)

    def commit(self, *, snapshot: bool = True) -> None:
        """Publish what was saved: write it, then a new snapshot (not needed if nothing was), then a new timestamp."""
        self.check_signers(*self._changed, *(["snapshot"] if snapshot else []), "timestamp")  # before anything is written
        for name, metadata in self._changed.items():
            self._sign(name, metadata)
            content = self._write(name, metadata)
            self.snapshot.signed.meta[f"{name}.json"] = MetaFile.from_data(metadata.signed.version, content, ["sha256"])
        if snapshot or self._changed:
            self._renew(self.snapshot.signed)
            self._sign("snapshot", self.snapshot)
            content = self._write("snapshot", self.snapshot)
            self.timestamp.signed.snapshot_meta = MetaFile.from_data(self.snapshot.signed.version, content, ["sha256"])
        self._renew(self.timestamp.signed)
        self._sign("timestamp", self.timestamp)
        self._write("timestamp", self.timestamp)
        self._changed.clear()

    def load(self) -> None:
        """Read the newest metadata and verify every signature. ReleaseError if it is not a repository, or not ours."""
        try:
            self.root = self._load_root()
            self.timestamp = self._load("timestamp", Timestamp, self.root.signed, None)
            self.snapshot = self._load("snapshot", Snapshot, self.root.signed, self.timestamp.signed.snapshot_meta)
            listed = self.snapshot.signed.meta
            self.targets = self._load("targets", Targets, self.root.signed, listed["targets.json"])
            delegations = self.targets.signed.delegations
            for name in {} if delegations is None or delegations.roles is None else delegations.roles:
                self.groups[name] = self._load(name, Targets, self.targets.signed, listed[f"{name}.json"])
        except KeyError as error:
            raise ReleaseError(f"{self.folder}: the metadata of {error} is missing") from error
        except (RepositoryError, ValueError) as error:
            raise ReleaseError(f"{self.folder}: the metadata cannot be trusted: {error}") from error

    def _load_root(self) -> Metadata[Root]:
        """The newest version, each version signed by the one before. The first one must be that beside the keys."""
        folder = self.folder / METADATA
        content = _read(folder / "1.root.json")
        for own in self.keys.folders:
            trusted = own / "root.json"
            if trusted.is_file() and _read(trusted) != content:
                raise ReleaseError(f"{folder / '1.root.json'} is not the root of these keys ({trusted})")
        root = _parse(content, Root)
        root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
        while (path := folder / f"{root.signed.version + 1}.root.json").is_file():
            newer = _parse(_read(path), Root)
            for one in (root, newer):
                one.signed.verify_delegate("root", newer.signed_bytes, newer.signatures)
            if newer.signed.version != root.signed.version + 1:
                raise ReleaseError(f"{path}: version must be {root.signed.version + 1}, got {newer.signed.version}")
            root = newer
        return root

    def _load(self, name: str, kind: type[S], delegator: Root | Targets, listed: MetaFile | None) -> Metadata[S]:
        path = self.folder / METADATA / ("timestamp.json" if listed is None else f"{listed.version}.{name}.json")
        content = _read(path)
        if listed is not None:
            listed.verify_length_and_hashes(content)
        metadata = _parse(content, kind)
        delegator.verify_delegate(name, metadata.signed_bytes, metadata.signatures)
        return metadata

    def _renew(self, signed: Signed) -> None:
        signed.version += 1
        days = signed.unrecognized_fields.get(_EXPIRES, GROUP_EXPIRES_DAYS)
        signed.expires = self._now.replace(microsecond=0) + timedelta(days=days)

    def _sign(self, name: str, metadata: Metadata[S]) -> None:
        own: list[Signer] = self._signers(name)
        metadata.signatures.clear()
        try:
            for signer in {one.public_key.keyid: one for one in (*own, *self.retired)}.values():
                metadata.sign(signer, append=True)
        except UnsignedMetadataError as error:
            raise ReleaseError(f"{name}: cannot be signed: {error.__cause__ or error}") from error

    def _signers(self, name: str) -> list[Signer]:
        role = self.role(name)
        return self.keys.signers(name, role.keyids, self.public_keys(name), threshold=role.threshold)

    def _write(self, name: str, metadata: Metadata[S]) -> bytes:
        content = _serialized(metadata)
        file = "timestamp.json" if name == "timestamp" else f"{metadata.signed.version}.{name}.json"
        _write_served(self.folder / METADATA / file, content)
        return content

    def _target_file(self, target: TargetFile) -> Path:
        return self.folder / TARGETS / target.get_prefixed_paths()[0]


def read_repository(folder: Path, keys: Keys) -> Repository:
    """The repository, verified, to read only. Needs no lock: a change that is being made is read before or after."""
    _check_repository(folder)
    try:
        return _load(folder, keys)
    except ReleaseError:  # perhaps between two versions of the root
        return _load(folder, keys)


@contextmanager
def open_repository(folder: Path, keys: Keys, *, now: datetime | None = None) -> Iterator[Repository]:
    """The repository, locked and verified."""
    _check_repository(folder)
    with _locked(folder):
        yield _load(folder, keys, now)


@contextmanager
def create_repository(
    folder: Path,
    keys: Keys,
    signers: Mapping[str, list[Signer]],
    *,
    thresholds: Mapping[str, int],
    expires_days: Mapping[str, int],
    now: datetime | None = None,
) -> Iterator[Repository]:
    """A new repository, whose first state is written when the block ends."""
    for name in (METADATA, TARGETS):
        _make_folders(folder / name)
    with _locked(folder):
        repository = Repository(folder, keys, now or datetime.now(timezone.utc))
        root = Root(consistent_snapshot=True)
        for name in ROLES:
            for signer in signers[name]:
                root.add_key(signer.public_key, name)
            root.roles[name].threshold = thresholds[name]
        repository.root = Metadata(_new(root, expires_days["root"]))
        repository.targets = Metadata(_new(Targets(), expires_days["targets"]))
        repository.snapshot = Metadata(_new(Snapshot(), expires_days["snapshot"]))
        repository.timestamp = Metadata(_new(Timestamp(), expires_days["timestamp"]))
        for metadata in (repository.root, repository.targets, repository.snapshot, repository.timestamp):
            metadata.signed.version = 0
        repository.save("targets")
        yield repository
        repository.commit()
        repository.save_root()


def _check_repository(folder: Path) -> None:
    if not (folder / METADATA / "1.root.json").is_file():
        raise ReleaseError(f"{folder}: is not a repository of releases; train release init makes one")


def _load(folder: Path, keys: Keys, now: datetime | None = None) -> Repository:
    repository = Repository(folder, keys, now or datetime.now(timezone.utc))
    repository.load()
    return repository


def _new(signed: S, expires_days: int) -> S:
    signed.unrecognized_fields[_EXPIRES] = expires_days
    return signed


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        held = lock(folder / ".lock", wait_s=LOCK_WAIT_S)
    except BlockingIOError as error:
        raise ReleaseError(f"{folder}: another train release has been running for {LOCK_WAIT_S:g} s") from error
    try:
        yield
    finally:
        os.close(held)


def _read(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    try:
        return read_regular(path, max_bytes=max_bytes)
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read: {error.strerror}") from error


def _serialized(metadata: Metadata[S]) -> bytes:
    return metadata.to_bytes(JSONSerializer(compact=False))


def _write_served(path: Path, content: bytes) -> None:
    """Write a file that a web server of another user can read, whatever the umask is."""
    atomic_write(path, content)
    path.chmod(0o644)


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents, as above."""
    if not folder.is_dir():
        _make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _parse(content: bytes, kind: type[S]) -> Metadata[S]:
    metadata: Metadata[S] = Metadata.from_bytes(content)
    if not isinstance(metadata.signed, kind):
        raise ValueError(f"it must be of type {kind.type}, got {metadata.signed.type}")
    return metadata
