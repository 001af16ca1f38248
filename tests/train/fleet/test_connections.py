"""The command and its cluster: TLS, a scheduler that is gone, workers of another version or without the output."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest
from distributed import default_client

from tests.broker import free_port
from tests.certificates import Authority
from tests.conftest import ROOT
from tests.train.fleet.dask import ALLOWED_FAILURES, Cluster
from tests.train.fleet.plant import fleet, killed_at_the_end, recordings, start, tiny_recipe, write
from train.fleet.cluster import Cluster as TrainCluster
from train.fleet.jobs import Done
from train.fleet.places import Store
from train.fleet.plan import load_plan
from train.fleet.run import Run

pytestmark = pytest.mark.waits


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A machine whose folder does not exist: its failure shows that a worker has tried."""
    path = tmp_path / "plan.yaml"
    path.write_text("machines: [{recordings: nowhere, name: fan}]\n")
    return path


def test_a_cluster_is_reached_through_tls(plan: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours = authority.sign("cluster", host="127.0.0.1")
    files = [str(authority.ca), str(ours.certificate), str(ours.key)]
    dask = [word for pair in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), files, strict=True) for word in pair]
    mine = [word for pair in zip(("--tls-ca", "--tls-cert", "--tls-key"), files, strict=True) for word in pair]
    with Cluster(tmp_path, {}, n_workers=1, protocol="tls", options=dask) as cluster:
        done = fleet(tmp_path, plan, "--out", tmp_path / "out", "--scheduler", cluster.address, *mine)
        assert [line["error"] for line in done.lines if line["step"] == "inspect"] == [f"{tmp_path}/nowhere: no such folder"]
        assert done.lines[0]["worker"].startswith("tls://")
        other = Authority(tmp_path, "other").sign("stranger", host="127.0.0.1")
        theirs = ["--tls-ca", tmp_path / "other.crt", "--tls-cert", other.certificate, "--tls-key", other.key]
        refused = fleet(tmp_path, plan, "--out", tmp_path / "out", "--scheduler", cluster.address, *theirs, "--reconnect", 1)
    assert refused.status == 1
    assert "no scheduler or worker reachable within 1 s" in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr


def test_a_scheduler_that_stays_away_ends_the_run_with_advice(plan: Path, tmp_path: Path) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    done = fleet(tmp_path, plan, "--out", tmp_path / "out", "--scheduler", address, "--reconnect", 1)
    assert done.status == 1
    *waits, last = done.stderr.splitlines()
    assert last == (
        f"train: error: {address}: no scheduler or worker reachable within 1 s; this run has completed 0 of 1 machine; "
        "run the same command again to resume"
    )
    assert all(line.startswith("train: waiting for the scheduler: ") for line in waits)


def test_a_cluster_without_workers_ends_the_run_with_advice(plan: Path, tmp_path: Path) -> None:
    with Cluster(tmp_path, {}, n_workers=0) as cluster:
        done = fleet(tmp_path, plan, "--out", tmp_path / "out", "--scheduler", cluster.address, "--reconnect", 2)
    assert done.status == 1
    advice = f"train: no worker is connected to {cluster.address}; to start one: dask worker {cluster.address}"
    assert advice in done.stderr.splitlines()
    assert "no scheduler or worker reachable within 2 s" in done.stderr.splitlines()[-1]


def test_a_worker_of_another_version_is_named(plan: Path, tmp_path: Path) -> None:
    for package in ("monitor", "train"):
        shutil.copytree(ROOT / package, tmp_path / "old" / package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    init = tmp_path / "old" / "monitor" / "__init__.py"
    init.write_text(re.sub(r'__version__ = "[^"]*"', '__version__ = "0.0.1"', init.read_text()))
    with Cluster(tmp_path, {"PYTHONPATH": str(tmp_path / "old")}, n_workers=1, code=tmp_path / "old") as cluster:
        done = fleet(tmp_path, plan, "--out", tmp_path / "out", "--scheduler", cluster.address)
    assert done.status == 1
    assert re.search(r"the worker tcp://\S+ has stethos 0\.0\.1, the command \S+: install the same versions\n$", done.stderr)
    assert json.loads((tmp_path / "out" / "failures.jsonl").read_bytes() or "{}") == {}
    assert done.lines == []


def test_outcomes_are_not_held_by_the_cluster(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("machines:\n" + "".join(f"  - {{recordings: nowhere-{n}, name: fan-{n}}}\n" for n in range(5)))
    jobs, _ = load_plan(path)
    held: list[int] = []

    def report(_: Done) -> None:
        held.append(len(default_client().futures))  # type: ignore[no-untyped-call]

    run = Run(jobs, Store(str(tmp_path / "out"), {}), {}, planned={job.machine for job in jobs}, report=report)
    run.go(TrainCluster(n_workers=1), reconnect_s=30.0)
    assert len(held) == 20
    assert held == list(range(20, 0, -1))


def test_a_machine_whose_worker_died_too_often_is_named(tmp_path: Path) -> None:
    write(tmp_path / "plant" / "fan", recordings(0, seconds=56.0))
    tiny_recipe(tmp_path / "tiny.yaml")
    plan = tmp_path / "plan.yaml"
    plan.write_text("recipe: tiny.yaml\nmachines: [{recordings: plant/fan}]\n")
    with Cluster(tmp_path, {ALLOWED_FAILURES: "0"}, n_workers=1) as cluster:
        run = start(tmp_path, plan, "--out", tmp_path / "out", "--scheduler", cluster.address)
        assert run.stdout is not None and run.stderr is not None
        with killed_at_the_end(run):
            assert json.loads(run.stdout.readline())["step"] == "inspect"
            cluster.kill_a_worker(random.Random(0))  # which fits, or is about to
            lines = {line["step"]: line for line in map(json.loads, run.stdout)}
            said = run.stderr.read()
            assert run.wait() == 1
    assert re.fullmatch(r"1 worker died while running it; the last was tcp://\S+", lines["fit"]["error"])
    assert (lines["evaluate"]["status"], lines["rescore"]["status"]) == ("skipped", "skipped")
    assert said.splitlines()[-1] == f"train: error: 1 machine failed: fan; see {tmp_path}/out/failures.jsonl"
