"""The index of a group: its releases, and which bundle each machine is to use. A signed target of the repository."""

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from monitor.bundle.manifest import one_line
from monitor.errors import BundleError
from monitor.events.event import MOMENT

MAX_BYTES = 20_000_000  # of the index
MAX_RELEASES = 1_000
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MACHINES = r"(?:[a-z0-9_-]{1,64}|\*)/(?:[a-z0-9_-]{1,64}|\*)"  # NODE/MACHINE; `*` stands for any node or any machine
MachinePattern = Annotated[str, StringConstraints(pattern=rf"^{MACHINES}$")]
Moment = Annotated[str, StringConstraints(pattern=MOMENT)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Assignment(_Part):
    """A bundle and the machines that are to use it."""

    machines: Annotated[tuple[MachinePattern, ...], Field(min_length=1, max_length=10_000)]
    """`NODE/MACHINE`; `*` stands for any node or any machine."""

    name: Name
    digest: Digest
    """SHA-256 of the bundle's manifest, which contains the hashes of its other files."""

    @property
    def bundle(self) -> str:
        """Name and content hash, as in events."""
        return f"{self.name}@{self.digest[:12]}"

    def includes(self, node: str, machine: str) -> bool:
        """Whether the machine is one of these."""
        return not names_of(node, machine).isdisjoint(self.machines)


class Release(_Part):
    """Bundles that were released together."""

    number: Annotated[int, Field(ge=1)]
    name: Name
    published: Moment
    wave: Annotated[float, Field(gt=0, le=1)]
    """The share of the machines that are to use it now."""

    withdrawn: bool = False
    adapted: Literal["keep", "replace"] = "keep"
    """Whether a machine that has learned or was calibrated on its node keeps that bundle."""

    bundles: Annotated[tuple[Assignment, ...], Field(min_length=1, max_length=10_000)]

    def in_wave(self, node: str, machine: str) -> bool:
        """Whether the machine is within the share. A larger wave contains the smaller ones."""
        return position(node, machine, self.name) < self.wave


class Index(_Part):
    """The releases of a group, oldest first."""

    schema_: Literal[1] = Field(default=1, alias="schema")
    group: Name
    releases: Annotated[tuple[Release, ...], Field(max_length=MAX_RELEASES)] = ()

    @model_validator(mode="after")
    def _rises(self) -> "Index":
        numbers = [release.number for release in self.releases]
        if numbers != sorted(set(numbers)):
            raise ValueError(f"the numbers of releases must rise, got {numbers[:20]}")
        if len({release.name for release in self.releases}) < len(numbers):
            raise ValueError("the names of releases must differ")
        return self

    def desired(self, node: str, machine: str) -> tuple[Release, Assignment] | None:
        """The newest release for a machine that is not withdrawn and whose wave includes it, and its bundle; None if none is."""
        for release in reversed(self.releases):
            assigned = next((one for one in release.bundles if one.includes(node, machine)), None)
            if assigned is not None and not release.withdrawn and release.in_wave(node, machine):
                return release, assigned
        return None

    def content(self) -> bytes:
        """The file."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


def names_of(node: str, machine: str) -> set[str]:
    """The patterns that include a machine."""
    return {f"{node}/{machine}", f"{node}/*", f"*/{machine}", "*/*"}


def position(node: str, machine: str, release: str) -> float:
    """A number in 0..1 for a machine and a release, the same on every computer: the machine's place in the waves."""
    digest = hashlib.sha256(f"{node}/{machine}/{release}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2.0**48


def read_index(content: bytes, group: str) -> Index:
    """Validate the file of a group. BundleError names the wrong key in one line."""
    try:
        index = Index.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(f"{index_path(group)}: {one_line(error)}") from error
    if index.group != group:
        raise BundleError(f"{index_path(group)}: group must be {group}, got {index.group}")
    return index


def index_path(group: str) -> str:
    """The path of the index among the targets."""
    return f"{group}/releases.json"


def archive_path(group: str, assignment: Assignment) -> str:
    """The path of a bundle's archive among the targets."""
    return f"{group}/bundles/{assignment.name}-{assignment.digest}.tar"
