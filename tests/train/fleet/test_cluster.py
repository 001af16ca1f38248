"""Scheduler and workers as separate processes over TCP: killed workers, a lost scheduler, poison; on disk and on S3.

The full form (LONG_TESTS) has 200 machines of one minute; the short one two.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.s3 import CREDENTIALS, running_s3
from tests.train.fleet.dask import Cluster, Killer
from tests.train.fleet.plant import (
    content_of,
    finished,
    fitted_alone,
    killed_at_the_end,
    recordings,
    start,
    tiny_recipe,
    write,
)
from tests.waiting import wait_until

LONG = bool(os.environ.get("LONG_TESTS"))
N_MACHINES = int(os.environ.get("FLEET_MACHINES", "200")) if LONG else 2
SECONDS = 60.0 if LONG else 54.0
KILL_EVERY_S = float(os.environ.get("FLEET_KILL_EVERY_S", "8"))
N_KILLS = 100_000 if LONG else 3
N_COMPARED = 20 if LONG else 1  # with `train fit`
HUNGRY, POISON = "hungry", "poison"


@dataclass
class Place:
    """Where recordings and results are."""

    recordings: str
    out: str
    storage: dict[str, Any]
    variables: dict[str, str]
    read: Callable[[str], dict[str, bytes]]  # the files below a folder of `out`


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "disk":
        out = tmp_path / "out"
        yield Place(str(tmp_path / "plant"), str(out), {}, {}, lambda name: content_of(out / name))
        return
    with running_s3(tmp_path, "plant") as (url, s3):
        yield _s3_place(url, s3, tmp_path / "plant")


def _s3_place(url: str, s3: Any, folder: Path) -> Place:
    def read(name: str) -> dict[str, bytes]:
        root = f"plant/out/{name}".rstrip("/")
        files = s3.find(root)
        found = s3.cat(files, on_error="omit") if files else {}  # moto may list a file that is just being written
        return {path.removeprefix(f"{root}/"): content for path, content in found.items()}

    place = Place("s3://plant/sound", "s3://plant/out", {"endpoint_url": url}, CREDENTIALS, read)
    place.upload = lambda: s3.put(f"{folder}/", "plant/sound/", recursive=True)  # type: ignore[attr-defined]
    return place


def test_every_healthy_machine_comes_out(place: Place, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    plant, names = tmp_path / "plant", [f"hall{number % 3}-m{number:03d}" for number in range(N_MACHINES)]
    for number, name in enumerate(names):
        hall, machine = name.split("-")
        write(plant / hall / machine, recordings(number, seconds=SECONDS))
    write(plant / "bad" / HUNGRY, recordings(901, seconds=SECONDS))
    write(plant / "bad" / POISON, {"normal/a.flac": b"fLaC" + bytes(range(256)) * 40, "normal/b.flac": b""})
    if hasattr(place, "upload"):
        place.upload()
    recipe = tiny_recipe(tmp_path / "tiny.yaml")
    plan = tmp_path / "plan.yaml"
    machines = [
        {"recordings": f"{place.recordings}/bad/{POISON}"},
        {"recordings": f"{place.recordings}/bad/{HUNGRY}", "memory_mb": 150},
        {"recordings": f"{place.recordings}/hall{{n}}/{{machine}}/", "name": "hall{n}-{machine}", "group": "hall {n}"},
    ]
    plan.write_text(yaml.safe_dump({"recipe": "tiny.yaml", "storage": place.storage, "machines": machines}))
    began = time.monotonic()
    with Cluster(tmp_path, place.variables) as cluster:
        run = start(tmp_path, plan, "--out", place.out, "--scheduler", cluster.address, **place.variables)
        with killed_at_the_end(run), Killer(cluster, every_s=KILL_EVERY_S, at_most=N_KILLS):
            wait_until(lambda: place.read("bundles") or run.poll() is not None, 300.0, what="the first bundle")
            cluster.restart_scheduler()
            done = finished(run)
    seconds = time.monotonic() - began
    assert done.status == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert f"2 machines failed: {POISON}, {HUNGRY}; see" in done.stderr.splitlines()[-1]
    bundles = place.read("bundles")
    assert {name for name in names if f"{name}/latest.json" in bundles} == set(names)
    failures = [json.loads(line) for line in place.read("")["failures.jsonl"].splitlines()]
    assert {entry["machine"] for entry in failures} == {HUNGRY, POISON}
    why = {entry["machine"]: entry["error"] for entry in failures}
    assert "MB of memory, 150 MB are allowed" in why[HUNGRY]
    assert "flac" in why[POISON]
    for name in names[:: max(1, N_MACHINES // N_COMPARED)]:
        key = json.loads(bundles[f"{name}/latest.json"])["key"]
        whole = {
            path.removeprefix(f"{name}/{key}/"): content for path, content in bundles.items() if path.startswith(f"{name}/{key}/")
        }
        del whole["complete.json"]
        alone = fitted_alone(plant / name.replace("-", "/"), recipe, tmp_path / "alone" / name)
        assert whole == alone
        scores = place.read(f"scores/{name}")
        assert sorted(scores) == ["2026-11-01.parquet", "2026-11-02.parquet", "complete.json"]
    rows = json.loads(place.read("")["fleet.json"])["machines"]
    assert [row["machine"] for row in rows[:2]] == sorted((HUNGRY, POISON))
    assert all(row["nearest"] for row in rows[2:])
    wait_until(lambda: not list((tmp_path / "scratch").glob("stethos-fleet-*")), what="that nothing is left of killed workers")
    record_property("figures", f"{N_MACHINES} machines in {seconds:.0f} s, {cluster.n_killed} workers killed, the scheduler once")
