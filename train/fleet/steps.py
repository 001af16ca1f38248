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

from monitor.errors import SourceError, StethosError, printable
from train.datasets import Dataset, read_dataset, recording_order
from train.datasets.parallel import use_cores
from train.fitting.manifest import versions
from train.fleet.child import LOG, RESULT
from train.fleet.jobs import Common, Job
from train.fleet.places import Store, copy_here, is_remote, remote_files
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
    except StethosError as error:
        result = {"error": str(error)}
    except OSError as error:
        result = {"error": printable(f"{error.filename or 'a file'}: {error.strerror or error}")}
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
        found = {"sound": _remote_sound(job, common)}
    else:
        found = _local_sound(read_dataset(Path(job.recordings), layout=job.layout))
    return {"key": job.key(found["sound"], versions()), "numbers": found}


def fit(job: Job, common: Common, before: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Fit, export, check and calibrate as `train fit` does, and publish the bundle."""
    from train.fleet.fitted import fit_one, summary_of

    data = _data(job, common, scratch)
    bundle = scratch / "bundles" / job.machine
    found = fit_one(job, data, bundle)
    listed = before["numbers"]
    is_same = (
        _remote_sound(job, common) == listed["sound"]
        if is_remote(job.recordings)
        else found.manifest.provenance.dataset_sha256 == listed["clips"]
    )
    if not is_same:
        raise SourceError(f"{job.recordings}: the recordings changed during the run; run the command again")
    summary = summary_of(found, data, bundle, key=before["key"], warnings=_warnings(scratch))
    Store(common.out, common.storage).publish(bundle, f"bundles/{job.machine}/{before['key']}", summary.model_dump(mode="json"))
    return {"numbers": summary.model_dump(include=FIT_NUMBERS)}


def evaluate(job: Job, common: Common, before: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Write and publish the report of `train evaluate`."""
    from train.evaluation.evaluate import evaluate
    from train.report.write import METRICS, write_report

    data, bundle, out = _data(job, common, scratch), _bundle(job, common, before["key"], scratch), scratch / "report"
    said = write_report(evaluate(bundle, data, channel=job.channel), out)
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
    summary = Scored(machine=job.machine, key=before["key"], days=tuple(days)).model_dump(mode="json")
    publish_scores(Store(common.out, common.storage), scratch / "scores", f"scores/{job.machine}", summary)
    return {"numbers": {"n_days": len(days)}}


def _data(job: Job, common: Common, scratch: Path) -> Dataset:
    """The recordings; remote ones are copied first, because libsndfile reads files."""
    folder = Path(job.recordings)
    if is_remote(job.recordings):
        folder = scratch / job.recordings.rstrip("/").rpartition("/")[2]
        folder.mkdir()
        copy_here(job.recordings, common.storage, folder)
    return read_dataset(folder, layout=job.layout)


def _bundle(job: Job, common: Common, key: str, scratch: Path) -> Path:
    """A copy of the machine's bundle, as a path from the scratch folder, in which this process runs: reports name it."""
    folder = Path("bundles", job.machine)
    where = f"{common.out.rstrip('/')}/bundles/{job.machine}/{key}"
    folder.mkdir(parents=True)
    if is_remote(where):
        copy_here(where, common.storage, scratch / folder)
    else:
        shutil.copytree(where, folder, dirs_exist_ok=True)
    return folder


def _local_sound(data: Dataset) -> dict[str, str]:
    """Hashes: `clips` of the recordings' names and contents, `sound` also of their order, which may depend on file times."""
    normal = [clip for clip in data.clips if clip.label == "normal"]
    order = recording_order(data, normal) if normal else None
    times = data.root / ORDER_FILE
    clips = data.sha256()
    content = {
        "layout": data.layout,
        "clips": clips,
        "order": None if order is None else [order.source, order.recordings, order.sessions],
        "times": times.read_bytes().hex() if times.is_file() else None,
    }
    return {"clips": clips, "sound": hashlib.sha256(json.dumps(content).encode()).hexdigest()}


def _remote_sound(job: Job, common: Common) -> str:
    """A hash of the names and sizes of the files, and of the store's own hashes."""
    files = remote_files(job.recordings, common.storage)
    return hashlib.sha256(json.dumps([[file.path, file.size, file.content] for file in files]).encode()).hexdigest()


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
