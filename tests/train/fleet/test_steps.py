"""The hashes that steps are known by, and what they say of recordings that are not those of the plan."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.errors import SinkError, SourceError
from tests.train.fleet.plant import recordings, tiny_recipe, write
from train.fleet.jobs import Common, Done, Job, software
from train.fleet.places import Store
from train.fleet.plan import load_plan
from train.fleet.results import write_results
from train.fleet.run import Run
from train.fleet.steps import _by_the_plan, _copy_of, inspect, rescore
from train.fleet.summaries import Fitted

COMMON = Common(out="out", storage={}, versions={})


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A machine with two recordings whose times are those of their files."""
    sound = recordings(0, seconds=28.0, n=2).values()
    write(tmp_path / "fan", {f"normal/{name}.flac": one for name, one in zip("ab", sound, strict=True)})
    for number, name in enumerate("ab"):
        os.utime(tmp_path / "fan" / "normal" / f"{name}.flac", (1_764_583_200 + 100 * number,) * 2)
    tiny_recipe(tmp_path / "tiny.yaml")
    (tmp_path / "plan.yaml").write_text("recipe: tiny.yaml\nmachines: [{recordings: fan}]\n")
    return load_plan(tmp_path / "plan.yaml")[0][0]


def key(job: Job) -> str:
    return str(inspect(job, COMMON, {}, Path())["key"])


def test_the_key_follows_contents_order_and_times(job: Job) -> None:
    folder, first = Path(job.recordings), key(job)
    assert key(job) == first
    for name in "ab":  # the same order, on another day
        path = folder / "normal" / f"{name}.flac"
        os.utime(path, (path.stat().st_mtime + 86_400,) * 2)
    moved = key(job)
    lines = ("path,recorded_at", *(f"normal/{name}.flac,2026-11-21T1{n}:00:00" for n, name in enumerate("ab")))
    (folder / "recorded.csv").write_text("\n".join(lines) + "\n")
    timed = key(job)
    content = (folder / "normal/b.flac").read_bytes()
    (folder / "normal/b.flac").write_bytes(content[:-1])
    assert len({first, moved, timed, key(job)}) == 4


def test_the_key_names_all_libraries_that_shape_a_bundle() -> None:
    assert set(software()) >= {"stethos", "numpy", "tensorflow", "keras", "scipy", "scikit-learn", "soxr", "libsndfile"}


def test_results_of_other_recordings_are_not_published(
    job: Job, demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = inspect(job, COMMON, {}, tmp_path)
    folder = tmp_path / "out" / "bundles" / job.machine
    folder.mkdir(parents=True)
    (folder / found["key"]).symlink_to(demo_bundle)
    write(Path(job.recordings), {"normal/c.flac": (Path(job.recordings) / "normal/a.flac").read_bytes()})
    common = COMMON.model_copy(update={"out": str(tmp_path / "out")})
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path / "scratch")
    with pytest.raises(SourceError, match="the recordings changed during the run; run the command again"):
        rescore(job, common, found, tmp_path / "scratch")
    assert not (tmp_path / "out" / "scores").exists()


def test_a_folder_of_several_machines_asks_for_a_placeholder(job: Job, tmp_path: Path) -> None:
    one = (Path(job.recordings) / "normal/a.flac").read_bytes()
    write(tmp_path / "mimii", {f"{kind}/id_00/normal/{n:08d}.wav": one for kind in ("fan", "pump") for n in range(3)})
    both = job.model_copy(update={"recordings": str(tmp_path / "mimii")})
    with pytest.raises(SourceError, match=r"mimii: has several machines; add a placeholder such as /\{machine\}"):
        inspect(both, COMMON, {}, tmp_path)


def test_copies_keep_the_folders_that_name_the_machine(job: Job, tmp_path: Path) -> None:
    remote = job.model_copy(update={"recordings": "s3://plant/mimii/fan/id_00/"})
    copy = _copy_of(remote, tmp_path)
    assert copy == tmp_path / "copy" / "mimii" / "fan" / "id_00"
    text = f"{copy}/normal/a.wav: cannot be read"
    assert _by_the_plan(text, remote, tmp_path) == "s3://plant/mimii/fan/id_00/normal/a.wav: cannot be read"
    assert _by_the_plan(text, job, tmp_path) == text
    for name in ("log", "scores", "result.json"):  # names that the scratch folder has
        assert _copy_of(job.model_copy(update={"recordings": f"s3://plant/{name}"}), tmp_path).parent != tmp_path


def test_progress_that_cannot_be_written_is_no_lost_scheduler(job: Job, tmp_path: Path) -> None:
    def report(_: Done) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    run = Run([job], Store(str(tmp_path / "out"), {}), {}, planned={job.machine}, report=report)
    with pytest.raises(SinkError, match="the progress cannot be written: Broken pipe; run the same command again to resume"):
        run._record(Done(machine=job.machine, step="inspect", status="done"))


def test_machines_with_spectra_of_other_lengths_are_not_compared(job: Job, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"), {})
    jobs = [job.model_copy(update={"machine": name}) for name in ("a", "b", "c")]
    for one, n_bands in zip(jobs, (3, 3, 4), strict=True):
        content = fitted(one.machine, n_bands)
        store.write(f"bundles/{one.machine}/{KEY}/complete.json", content.model_dump_json().encode())
        latest = f'{{"machine": "{one.machine}", "key": "{KEY}", "bundle": "x"}}'
        store.write(f"bundles/{one.machine}/latest.json", latest.encode())
    rows = {row.machine: row for row in write_results(store, jobs, {})}
    assert (rows["a"].nearest, rows["b"].nearest, rows["c"].nearest) == ("b", "a", None)
    store.write(f"bundles/c/{KEY}/complete.json", fitted("a", 3).model_dump_json().encode())
    rows = {row.machine: row for row in write_results(store, jobs, {})}
    assert "belongs to another machine or key; delete it and run again" in rows["c"].needs[0]


KEY = "0123456789abcdef"


def fitted(machine: str, n_bands: int) -> Fitted:
    numbers: dict[str, Any] = dict.fromkeys(
        ("promised_per_week", "promised_alarms_per_week", "bound_95_per_week", "score_mean", "score_std")
    )
    return Fitted(
        machine=machine,
        key=KEY,
        recipe="default",
        n_recordings=1,
        n_anomaly=0,
        n_sessions=1,
        hours=1.0,
        is_enough=True,
        front_end="f",
        spectrum_db=tuple(map(float, np.arange(n_bands))),
        warnings=(),
        **numbers,
    )
