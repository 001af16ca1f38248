"""A plan: the machines of a fleet, where their recordings are and how each is trained, as one validated YAML file."""

import json
import re
import unicodedata
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from monitor.config.messages import problems
from monitor.config.yaml_file import read_mapping
from monitor.errors import ConfigError
from train.datasets import LAYOUTS
from train.fleet.expand import fill, found_folders
from train.fleet.jobs import Job
from train.recipes.recipe import load_recipe

MAX_MACHINES = 10_000
MAX_NAME = 100  # characters
Seed = Annotated[int, Field(ge=0, lt=1 << 32)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Seconds = Annotated[int, Field(ge=1, le=1_000_000)]
Megabytes = Annotated[int, Field(ge=100, le=1_000_000)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Storage(_Part):
    """How object stores are reached. Credentials are those of the environment, never of the plan."""

    endpoint_url: Text | None = None
    region: Text | None = None
    profile: Text | None = None  # in ~/.aws/config
    anonymous: bool = False

    def options(self) -> dict[str, Any]:
        """The arguments of fsspec's file system for S3."""
        region = {} if self.region is None else {"client_kwargs": {"region_name": self.region}}
        given = {"endpoint_url": self.endpoint_url, "profile": self.profile, "anon": self.anonymous or None}
        return {name: value for name, value in given.items() if value is not None} | region


class _Defaults(_Part):
    """The keys that a machine may have of its own, or the plan for all."""

    recipe: Text | None = None
    layout: Text | None = None
    channel: Annotated[int, Field(ge=1, le=1024)] | None = None
    seed: Seed | None = None
    group: Text | None = None
    memory_mb: Megabytes | None = None
    timeout_s: Seconds | None = None

    @field_validator("layout")
    @classmethod
    def _is_known(cls, layout: str | None) -> str | None:
        if layout is not None and layout not in LAYOUTS:
            raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
        return layout


class MachinesPart(_Defaults):
    """One machine, or all machines whose folders match a pattern."""

    recordings: Text
    name: Text | None = None


class Plan(_Defaults):
    """A whole plan. `memory_mb` and `timeout_s` limit each step of a machine; `exclude` has patterns of machines' names."""

    machines: Annotated[tuple[MachinesPart, ...], Field(min_length=1, max_length=MAX_MACHINES)]
    recipe: Text = "default"
    memory_mb: Megabytes = 4000
    timeout_s: Seconds = 43_200
    exclude: Annotated[tuple[Text, ...], Field(max_length=MAX_MACHINES)] = ()
    storage: Storage = Storage()


def load_plan(path: Path) -> tuple[list[Job], Storage]:
    """A job for each machine, in the order of the plan, and how object stores are reached.

    Relative paths are below the plan's folder. ConfigError names the key that is wrong, a pattern that matches nothing, or
    two machines with the same name or the same recordings.
    """
    try:
        plan = Plan.model_validate_json(json.dumps(read_mapping(path), default=str))
    except ValidationError as error:
        lines = [line for _, line in problems(error, Plan)]
        misspelt = next((line for line in lines if " is not a setting" in line), None)  # from which others follow
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise ConfigError(f"{path}: {misspelt or f'{lines[0]}{more}'}") from error
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: must consist of texts, numbers, lists and mappings: {error}") from error
    jobs: dict[str, Job] = {}
    of_sound: dict[tuple[str, int | None], str] = {}
    for number, part in enumerate(plan.machines):
        where = f"{path}: machines.{number}"
        for job in _located(part, plan, path.resolve().parent, where=where):
            if any(fnmatchcase(job.machine, pattern) for pattern in plan.exclude):
                continue
            if job.machine in jobs:
                both = f"{jobs[job.machine].recordings} and {job.recordings}"
                raise ConfigError(f"{where}.name: machines must have different names, got {job.machine!r} for {both}")
            other = of_sound.setdefault((job.recordings, job.channel), job.machine)
            if other != job.machine:
                raise ConfigError(f"{where}.recordings: {job.machine!r} and {other!r} have the same recordings, {job.recordings}")
            jobs[job.machine] = job
    if not jobs:
        raise ConfigError(f"{path}: exclude leaves no machine")
    if len(jobs) > MAX_MACHINES:
        raise ConfigError(f"{path}: at most {MAX_MACHINES} machines are allowed, got {len(jobs)}")
    return list(jobs.values()), plan.storage


def _located(part: MachinesPart, plan: Plan, folder: Path, *, where: str) -> list[Job]:
    """The jobs of one entry; ConfigError begins with its place in the plan."""
    try:
        return list(_jobs(part, plan, folder))
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from error


def _jobs(part: MachinesPart, plan: Plan, folder: Path) -> Iterator[Job]:
    """A job for each folder that the pattern matches."""

    def chosen(key: str) -> Any:
        own = getattr(part, key)
        return getattr(plan, key) if own is None else own

    name = str(chosen("recipe"))
    try:
        recipe = load_recipe(str(folder / name) if name.endswith((".yaml", ".yml")) else name)
    except ConfigError as error:
        raise ConfigError(f"recipe: {error}") from error
    for where, values in found_folders(part.recordings.removeprefix("file://"), plan.storage.options(), below=folder):
        group = chosen("group")
        yield Job(
            machine=_name(part.name, where, values),
            recordings=where,
            group="" if group is None else fill(group, values, key="group"),
            recipe_name=Path(name).stem,
            recipe=recipe.model_dump(mode="json", exclude_unset=True),  # as written: a key that is unset follows the rate
            layout=chosen("layout"),
            channel=chosen("channel"),
            seed=recipe.training.seed if chosen("seed") is None else chosen("seed"),
            memory_mb=chosen("memory_mb"),
            timeout_s=chosen("timeout_s"),
        )


def _name(given: str | None, where: str, values: dict[str, str]) -> str:
    """The machine's name: as given, else the placeholders' values, else the folder's name."""
    parts = {key: _plain(value) for key, value in values.items()}
    name = fill(given, parts, key="name").lower() if given else "-".join(parts.values()) or _plain(where.rpartition("/")[2])
    if not re.fullmatch(rf"[a-z0-9][a-z0-9_-]{{0,{MAX_NAME - 1}}}", name):
        allowed = f"consist of at most {MAX_NAME} of a-z, 0-9, _ and -"
        raise ConfigError(f"name: must {allowed}, got {name[:MAX_NAME]!r} for {where}; a key `name` may give another")
    return name


def _plain(text: str) -> str:
    """A folder's name as part of a machine's: `Lüfter 4 (old)` becomes `lufter-4-old`."""
    letters = unicodedata.normalize("NFKD", text.lower()).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "-", letters).strip("-")
