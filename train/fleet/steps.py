"""The steps of one machine, each in a process of its own: `python -m train.fleet.steps SCRATCH`, a request on stdin."""

import hashlib
import json
import logging
import os
import shutil
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from monitor.bundle import load_bundle
from monitor.bundle.budget import WORKSTATION
from monitor.errors import BundleError, SinkError, SourceError, StethosError, UsageError, printable
from train.datasets import Dataset, read_dataset, recording_order
from train.datasets.parallel import use_cores
from train.fleet.child import LOG, RESULT
from train.fleet.jobs import Common, Job, software
from train.fleet.places import Store, copy_here, in_words, is_remote, remote_files
from train.fleet.summaries import FIT_NUMBERS, Evaluated, Scored

ORDER_FILE = "recorded.csv"
_MAX_WARNINGS = 20
_WARNING = "train: warning: "


def main() -> int:
    """Run the requested step and write its result; returns the exit status."""
    scratch = Path(sys.argv[1])
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # the worker has died
        return 1
    request = json.loads(line)
    threading.Thread(target=_end_with_worker, daemon=True).start()
    use_cores(1)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{_WARNING}%(message)s"))
    logging.getLogger("monitor").addHandler(handler)  # ours alone: those of TensorFlow need no person
    job, common = Job.model_validate(request["job"]), Common.model_validate(request["common"])
    try:
        step = {"inspect": inspect, "fit": fit, "evaluate": evaluate, "rescore": rescore}[request["step"]]
        result = step(job, common, request["before"], scratch)
    except (StethosError, OSError) as error:
        result = {"error": _by_the_plan(in_words(error), job, scratch)}
    except ModuleNotFoundError as error:
        result = {"error": f"needs {error.name}, which the worker has not installed: pip install 'stethos[train,fleet]'"}
    except MemoryError:
        result = {"error": "no memory is left on the computer"}
    except Exception as error:  # noqa: BLE001 (a poison recording must not end the run; the log has the place)
        traceback.print_exc()
        result = {"error": printable(" ".join(f"unexpected {type(error).__name__}: {error}".split()))[:500]}
    (scratch / RESULT).write_text(json.dumps(result))
    return 1 if "error" in result else 0


def inspect(job: Job, common: Common, before: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """List the recordings and hash what determines the result; the numbers are those that later steps need."""
    if is_remote(job.recordings):
        listed = sound = _remote_sound(job, common)
    else:
        data = _read(Path(job.recordings), job)
        listed, sound = _files(data), _sound(data)
    return {"key": job.key(sound, software()), "numbers": {"listed": listed}}


def fit(job: Job, common: Common, before: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Fit, export, check and calibrate as `train fit` does, and publish the bundle."""
    from train.fleet.fitted import fit_one, summary_of

    data = _data(job, common, scratch)
    bundle = scratch / "bundles" / job.machine
    found = fit_one(job, data, bundle)
    warnings = [_by_the_plan(line, job, scratch) for line in _warnings(scratch)]
    _check_unchanged(job, common, before)
    summary = summary_of(found, data, bundle, key=before["key"], warnings=warnings)
    Store(common.out, common.storage).publish(bundle, f"bundles/{job.machine}/{before['key']}", summary.model_dump(mode="json"))
    return {"numbers": summary.model_dump(include=FIT_NUMBERS)}


def evaluate(job: Job, common: Common, before: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Write and publish the report of `train evaluate`."""
    from train.evaluation.evaluate import evaluate
    from train.report.write import METRICS, write_report

    data, bundle, out = _data(job, common, scratch), _bundle(job, common, before["key"], scratch), scratch / "report"
    said = write_report(evaluate(bundle, data, channel=job.channel), out)
    _check_unchanged(job, common, before)
    metrics = json.loads((out / METRICS).read_text())
    at = metrics["at_threshold"]
    summary = Evaluated(
        machine=job.machine,
        key=before["key"],
        auc=metrics["auc"]["value"],
        found=at["true_positives"],
        missed=at["false_negatives"],
        false_alarms=at["false_positives"],
        n_normal=at["false_positives"] + at["true_negatives"],
        verdict=said.headline[:1000],
    ).model_dump(mode="json")
    Store(common.out, common.storage).publish(out, f"reports/{job.machine}/{before['key']}", summary)
    return {"numbers": {name: value for name, value in summary.items() if name not in ("machine", "key")}}


def rescore(job: Job, common: Common, before: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Score all normal recordings in the order of their times and write one Parquet file per day."""
    from train.fleet.history import publish_scores, write_scores

    data, bundle = _data(job, common, scratch), _bundle(job, common, before["key"], scratch)
    days = write_scores(bundle, data, scratch / "scores", channel=job.channel)
    _check_unchanged(job, common, before)
    summary = Scored(machine=job.machine, key=before["key"], days=tuple(days)).model_dump(mode="json")
    publish_scores(Store(common.out, common.storage), scratch / "scores", f"scores/{job.machine}", summary)
    return {"numbers": {"n_days": len(days)}}


def _data(job: Job, common: Common, scratch: Path) -> Dataset:
    """The recordings; remote ones are copied first, because libsndfile reads files."""
    folder = Path(job.recordings)
    if is_remote(job.recordings):
        folder = _copy_of(job, scratch)
        folder.mkdir(parents=True)
        copy_here(job.recordings, common.storage, folder)
    return _read(folder, job)


def _read(folder: Path, job: Job) -> Dataset:
    try:
        return read_dataset(folder, layout=job.layout)
    except UsageError as error:  # it names an option of other commands
        raise SourceError(
            f"{job.recordings}: has several machines; add a placeholder such as /{{machine}} in the plan"
        ) from error


def _copy_of(job: Job, scratch: Path) -> Path:
    """The folder of a copy, below folders of the same names, in which published layouts have the machine."""
    return scratch / "copy" / Path(*job.recordings.rstrip("/").partition("://")[2].split("/")[-3:])


def _by_the_plan(text: str, job: Job, scratch: Path) -> str:
    """An error or a warning about a copy, with the place in the plan in its stead."""
    return text.replace(str(_copy_of(job, scratch)), job.recordings.rstrip("/")) if is_remote(job.recordings) else text


def _bundle(job: Job, common: Common, key: str, scratch: Path) -> Path:
    """A copy of the machine's bundle, as a path from the scratch folder, in which this process runs: reports name it."""
    folder = Path("bundles", job.machine, key)
    where = f"{common.out.rstrip('/')}/bundles/{job.machine}/{key}"
    folder.mkdir(parents=True)
    if is_remote(where):
        copy_here(where, common.storage, scratch / folder)
    else:
        shutil.copytree(where, folder, dirs_exist_ok=True)
    try:
        load_bundle(folder, budget=WORKSTATION)
    except BundleError as error:
        raise SinkError(f"{where}: the bundle is damaged: {error}; delete this folder and run again") from error
    return folder


def _check_unchanged(job: Job, common: Common, before: dict[str, Any]) -> None:
    """SourceError where the files are not those that `inspect` has listed: the key is of other sound then."""
    folder = Path(job.recordings)
    listed = _remote_sound(job, common) if is_remote(job.recordings) else _files(_read(folder, job))
    if listed != before["numbers"]["listed"]:
        raise SourceError(f"{job.recordings}: the recordings changed during the run; run the command again")


def _files(data: Dataset) -> str:
    """A hash of names, sizes and times, to notice changes without reading everything again."""
    paths = [*(clip.path for clip in data.clips), data.root / ORDER_FILE]
    found = [(str(path), status.st_size, status.st_mtime_ns) for path in paths if (status := _status(path)) is not None]
    return _hash(sorted(found))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _sound(data: Dataset) -> str:
    """A hash of the recordings' names and contents, and of their order and times, which may be those of the files."""
    normal = [clip for clip in data.clips if clip.label == "normal"]
    order = recording_order(data, normal) if normal else None
    recorded = data.root / ORDER_FILE
    content = {
        "layout": data.layout,
        "clips": data.sha256(),
        "order": None if order is None else [order.source, order.recordings, order.sessions],
        "times": None if order is None or order.times is None else [str(order.times[name]) for name in order.recordings],
        "recorded": recorded.read_bytes().hex() if recorded.is_file() else None,
    }
    return _hash(content)


def _remote_sound(job: Job, common: Common) -> str:
    """A hash of the names and sizes of the files, and of the store's own hashes."""
    files = remote_files(job.recordings, common.storage)
    return _hash([[file.path, file.size, file.content] for file in files])


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _warnings(scratch: Path) -> list[str]:
    """The warnings that training has printed so far."""
    sys.stderr.flush()
    lines = (scratch / LOG).read_text("utf-8", "replace").splitlines()
    return [line.removeprefix(_WARNING)[:300] for line in lines if line.startswith(_WARNING)][:_MAX_WARNINGS]


def _end_with_worker() -> None:
    """End when the worker does: it holds the other end of stdin open as long as it lives."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
