"""Scaling of `train fleet`: tasks, wall time, CPU, overhead and memory for 1 and 2 workers, and a simulation of a plant.

    python -m benchmarks.speed.fleet [--machines 6] [--seconds 120] [--recipe default] [--epochs N]

Synthetic machines with recordings of 15 s, one in three with a fault. Every run begins with an empty cache and an empty output.
Then the same command runs again, when everything is there. The time of that run, less an idle start, is the overhead of its
tasks, hashing included. The simulation is not a measurement: it is a list scheduler that assigns the steps of 500 machines to
16 workers, in Dask's order of priority, with the measured durations of one worker plus the overhead.
"""

import argparse
import heapq
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import psutil
import soundfile

from benchmarks.report import Table, make_parser, publish
from benchmarks.speed.quick_bundle import write_recipe
from train.fleet.jobs import STEPS
from train.synth import MACHINES, Scene

ROOT = Path(__file__).parents[2]
RATE_HZ, CLIP_S = 16_000, 15.0
N_MACHINES, N_WORKERS = 500, 16  # of the simulation
Durations = Mapping[str, float]  # seconds by step


@dataclass
class Measured:
    """One run."""

    wall_s: float
    cpu_s: float
    lines: list[dict[str, object]]
    worker_mb: float  # peak of one Dask worker
    scheduler_mb: float  # peak of the command, which runs the scheduler

    @property
    def n_done(self) -> int:
        """Steps that ran."""
        return sum(line["status"] == "done" for line in self.lines)

    def values(self, step: str, key: str) -> list[float]:
        """A number of all steps of a kind that ran."""
        return [float(str(line[key])) for line in self.lines if line["step"] == step and line["status"] == "done"]


@dataclass
class Watch:
    """The peak memory, MB, of the command and of its largest Dask worker, sampled every 0.2 s."""

    pid: int
    ends: threading.Event = field(default_factory=threading.Event)
    command_mb: float = 0.0
    worker_mb: float = 0.0

    def run(self) -> None:
        """Sample until the end."""
        while not self.ends.wait(0.2):
            with suppress(psutil.Error):  # one has ended
                command = psutil.Process(self.pid)
                self.command_mb = max(self.command_mb, command.memory_info().rss / 1e6)
                self.worker_mb = max([self.worker_mb, *(child.memory_info().rss / 1e6 for child in command.children())])


def main() -> None:
    """Print all tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--machines", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=120.0, help="normal sound of a machine")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    arguments = parser.parse_args()
    publish(tables(arguments), arguments.json)


def tables(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """All tables and the overhead."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = write_plant(folder, arguments)
        runs = {n: measured(folder, plan, n_workers=n, out=f"out{n}") for n in (1, 2)}
        again = measured(folder, plan, n_workers=1, out="out1")
    yield from run_tables(runs)
    start_s, overhead_s = overhead(runs[1], again)
    yield f"start and end of the command, everything complete: {start_s:.1f} s for {len(again.lines)} tasks"
    yield f"overhead a task, beyond that and its child process: {1000 * overhead_s:.0f} ms"
    yield from simulate(runs[1], overhead_s + start_s / max(1, len(again.lines)))


def write_plant(folder: Path, arguments: argparse.Namespace) -> Path:
    """Recordings, recipe and plan."""
    for number in range(arguments.machines):
        machine = list(MACHINES.values())[number % len(MACHINES)](number, sample_rate_hz=RATE_HZ)
        n_normal = round(arguments.seconds / CLIP_S)
        for take in range(n_normal + (2 if number % 3 == 0 else 0)):
            label = "normal" if take < n_normal else "anomaly"
            path = folder / "plant" / f"m{number:03d}" / label / f"{take:04d}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            scene = Scene(machine=machine, take=take, fault="bearing" if label == "anomaly" else None)
            with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_16") as file:
                for chunk in scene.chunks(CLIP_S):
                    file.write(chunk)
    write_recipe(arguments.recipe, folder / "recipe.yaml", epochs=arguments.epochs)
    plan = folder / "plan.yaml"
    plan.write_text('recipe: recipe.yaml\nmachines: [{recordings: "plant/{machine}"}]\n')
    return plan


def measured(folder: Path, plan: Path, *, n_workers: int, out: str) -> Measured:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "train.cli.main", "fleet", str(plan), "--json"]
    command += ["--out", str(folder / out), "--workers", str(n_workers)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / f"cache-{out}"), "TF_CPP_MIN_LOG_LEVEL": "2"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    watch = Watch(process.pid)
    thread = threading.Thread(target=watch.run)
    thread.start()
    text, _ = process.communicate()
    wall_s = time.perf_counter() - began
    watch.ends.set()
    thread.join()
    if process.returncode:
        sys.exit(process.returncode)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall_s, cpu_s, [json.loads(line) for line in text.splitlines()], watch.worker_mb, watch.command_mb)


def run_tables(runs: Mapping[int, Measured]) -> Iterator[Table]:
    """Wall time, CPU and memory of each run, and of each kind of step."""
    rows: list[list[object]] = []
    for n, run in runs.items():
        times = [f"{run.wall_s:.1f}", f"{run.cpu_s:.1f}", f"{runs[1].wall_s / run.wall_s:.2f}"]
        rows.append([n, len(run.lines), run.n_done, *times, f"{run.worker_mb:.0f}", f"{run.scheduler_mb:.0f}"])
    columns = ["workers", "tasks", "steps run", "wall s", "CPU s", "speed-up", "Dask worker MB", "command and scheduler MB"]
    yield Table("runs", columns, rows)
    rows = []
    for step in STEPS:
        seconds, cpu_s, peak_mb = (runs[1].values(step, key) for key in ("seconds", "cpu_s", "peak_mb"))
        rows.append([step, len(seconds), f"{mean(seconds):.2f}", f"{mean(cpu_s):.2f}", f"{max(peak_mb):.0f}"])
    yield Table("steps", ["step, one worker", "n", "mean wall s", "mean CPU s", "peak MB"], rows)


def overhead(run: Measured, again: Measured) -> tuple[float, float]:
    """The time to start and end the command, and the time of a task that is spent neither there nor in its child process, s."""
    inside_s = sum(sum(run.values(step, "seconds")) for step in STEPS)
    start_s = again.wall_s - sum(again.values("inspect", "seconds"))
    return start_s, max(0.0, run.wall_s - inside_s - start_s) / len(run.lines)


def simulate(run: Measured, overhead_s: float) -> Iterator[Table | str]:
    """Assign the steps of many machines, which repeat the measured ones, to workers."""
    by_machine: dict[str, dict[str, float]] = {}
    for line in run.lines:
        by_machine.setdefault(str(line["machine"]), {})[str(line["step"])] = float(str(line.get("seconds", 0.0))) + overhead_s
    kinds = list(by_machine.values())
    machines = [kinds[number % len(kinds)] for number in range(N_MACHINES)]
    total_s = sum(sum(steps.values()) for steps in machines)
    took_s = {n: makespan(machines, n) for n in (1, 2, N_WORKERS)}
    rows = [[n, f"{seconds / 3600:.2f}", f"{total_s / (n * seconds):.1%}"] for n, seconds in took_s.items()]
    yield Table("simulation", ["workers", "hours", "share of time busy"], rows)
    yield f"simulation (list scheduler, not measured): {N_MACHINES} machines of this size, {total_s / 3600:.2f} worker-hours"


def makespan(machines: Sequence[Durations], n_workers: int) -> float:
    """The time, s, until all chains inspect -> fit -> (evaluate, rescore) are done; a free worker takes the first ready step."""
    ready = [(number, STEPS.index("inspect")) for number in range(len(machines))]
    running: list[tuple[float, int, int]] = []
    now_s, free = 0.0, n_workers
    while ready or running:
        while free and ready:
            number, step = heapq.heappop(ready)
            heapq.heappush(running, (now_s + machines[number][STEPS[step]], number, step))
            free -= 1
        now_s, number, step = heapq.heappop(running)
        free += 1
        for after in {0: (1,), 1: (2, 3)}.get(step, ()):
            heapq.heappush(ready, (number, after))
    return now_s


if __name__ == "__main__":
    main()
