"""Load mutants of a bundle, each in a process of its own under limits, and count crashes, hangs and tracebacks.

python -m tests.bundle.fuzz [-n 2000] [--seed 0] [--kind KIND] [BUNDLE]
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.bundle.manifest import Manifest
from monitor.errors import StethosError
from monitor.scoring.golden import golden_score
from monitor.scoring.scorer import score_stream
from tests.bundle.mutants import KINDS, MANIFEST, MODEL, STATISTICS, Files, mutants

LIMIT_S, LIMIT_BYTES = 20, 400 << 20  # of CPU time, and of memory beyond the process's own


@dataclass
class Outcomes:
    """Counts over all mutants, and the failures by name."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        kinds = Counter(f"{name.rsplit('-', 2)[0]}: {what.splitlines()[0]}" for name, what in self.failures.items())
        counts = f"{self.tried} tried, {self.refused} refused, {self.accepted} accepted, {len(self.failures)} failures"
        return "\n".join([f"{counts}, slowest {self.slowest_s:.1f} s", *(f"  {n} x {what}" for what, n in kinds.most_common())])


def run(tries: Iterable[tuple[str, Files]], *, keep: Path | None = None) -> Outcomes:
    """Load each mutant and score noise with it; `keep` receives those that fail."""
    outcomes = Outcomes()
    for name, files in tries:
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
            started = time.monotonic()
            status, text = _in_child(Path(folder))
        outcomes.tried += 1
        outcomes.slowest_s = max(outcomes.slowest_s, time.monotonic() - started)
        if status == 0:
            outcomes.accepted += 1
        elif status == 78 and text and "\n" not in text and text.startswith(folder):
            outcomes.refused += 1
        else:
            what = signal.Signals(-status).name if status < 0 else f"status {status}"
            outcomes.failures[name] = f"{what} {text.strip().splitlines()[-1][:200] if text.strip() else ''}\n{text}"
            if keep is not None:
                (keep / name).mkdir(parents=True, exist_ok=True)
                for file, content in files.items():
                    (keep / name / file).write_bytes(content)
    return outcomes


def short_bundle(bundle: Path, out: Path) -> Path:
    """A copy of a bundle with segments of two ticks, which loads faster."""
    for name in (MANIFEST, MODEL, STATISTICS):
        shutil.copy(bundle / name, out / name)
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["segment_ticks"] = 2
    loaded = load_bundle(bundle)
    short = replace(loaded, manifest=Manifest.model_validate_json(json.dumps(manifest)))
    manifest["golden"]["score"] = golden_score(short.scorer())
    (out / MANIFEST).write_text(json.dumps(manifest))
    return out


def _in_child(folder: Path) -> tuple[int, str]:
    """The exit status, negative for a signal, and the text of an error."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 70
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            in_use = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (in_use + LIMIT_BYTES,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(3 * LIMIT_S)
            try:
                status = _load(folder)
            except StethosError as error:
                status = error.exit_status
                os.write(writing, str(error).encode("utf-8", "backslashreplace"))
            except BaseException:  # noqa: BLE001 - whatever it is, the parent counts it
                status = 1
                os.write(writing, traceback.format_exc().encode("utf-8", "backslashreplace")[-60_000:])
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text.decode()


def _load(folder: Path) -> int:
    scorer = load_bundle(folder).scorer()
    rng = np.random.default_rng(0)
    score_stream(scorer, [Block(0, rng.normal(0.0, 0.1, 20_000).astype(np.float32))])
    return 0


def main() -> int:
    """Print tries and failures; exit status 1 if there are any failures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("models/demo-fan"))
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = short_bundle(arguments.bundle, Path(folder))
        outcomes = run(mutants(bundle, n=arguments.n, seed=arguments.seed, kind=arguments.kind), keep=arguments.keep)
    print(outcomes)
    return bool(outcomes.failures)


if __name__ == "__main__":
    sys.exit(main())
