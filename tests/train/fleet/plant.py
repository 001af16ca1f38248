"""A plant of synthetic machines, and the command that trains them."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import yaml

from tests.conftest import ROOT
from train.recipes.recipe import RECIPES
from train.synth import MACHINES, Scene

EPOCH = "1700000000"  # SOURCE_DATE_EPOCH, so that bundles can be compared byte for byte
RATE_HZ = 16_000
PYTHON = [sys.executable, "-m"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """For the command, the scheduler and the workers; their scratch folders are in `folder`."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True, parents=True)
    given = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(scratch)}
    return {**os.environ, **given, "SOURCE_DATE_EPOCH": EPOCH, "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def tiny_recipe(path: Path, *, base: str = "mimii-mel") -> Path:
    """A recipe that trains within a second."""
    recipe = yaml.safe_load((RECIPES / f"{base}.yaml").read_text())
    recipe["training"]["epochs"] = 1
    recipe["network"]["hidden"] = [4]
    recipe["front_end"]["n_mels"] = 16
    path.write_text(yaml.safe_dump(recipe))
    return path


def recordings(number: int, *, seconds: float, n: int = 4, fault: str | None = None) -> dict[str, bytes]:
    """The files of a machine, by their paths; all machines differ. The recordings are of two days."""
    kind = list(MACHINES)[number % len(MACHINES)]
    machine = MACHINES[kind](number, sample_rate_hz=RATE_HZ)
    files = {}
    for take in range(n):
        is_fault = fault is not None and take == n - 1
        scene = Scene(machine=machine, take=take, fault=fault if is_fault else None)
        content = io.BytesIO()
        with soundfile.SoundFile(content, "w", RATE_HZ, 1, "PCM_16", format="FLAC") as file:
            for chunk in scene.chunks(seconds / n):
                file.write(chunk)
        day = 1 + 2 * take // n
        files[f"{'anomaly' if is_fault else 'normal'}/2026-11-0{day}T10-{take:02d}-00.flac"] = content.getvalue()
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fitted_alone(recording_folder: Path, recipe: Path, out: Path) -> dict[str, bytes]:
    """The bundle that `train fit` makes in a process of its own."""
    command = [*PYTHON, "train.cli.main", "fit", str(recording_folder), "--recipe", str(recipe), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, env=environment(out.parent), cwd=ROOT)
    return content_of(out)


@dataclass
class Finished:
    """The end of a run."""

    status: int
    lines: list[dict[str, Any]]
    stderr: str

    def of(self, machine: str) -> dict[str, str]:
        """The status of each step."""
        return {line["step"]: line["status"] for line in self.lines if line["machine"] == machine}


def finished(process: "subprocess.Popen[str]", *, within_s: float = 7200.0) -> Finished:
    out, err = process.communicate(timeout=within_s)
    return Finished(process.returncode, [json.loads(line) for line in out.splitlines()], err)


def start(folder: Path, *arguments: object, **more: str) -> "subprocess.Popen[str]":
    command = [*PYTHON, "train.cli.main", "fleet", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(folder, **more), cwd=ROOT)


@contextmanager
def killed_at_the_end(process: "subprocess.Popen[str]") -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()
        process.wait()


def fleet(folder: Path, *arguments: object, **more: str) -> Finished:
    return finished(start(folder, *arguments, **more))
