"""Features for training: speed compared with librosa in the same run, and memory use for any number of hours.

    python -m benchmarks.speed.features [--long]

Sound: `train synth`, 16 kHz, FLAC, 10 s clips. Beyond 10 minutes the same sound is repeated, with a different start in each
clip. Speed is in seconds of sound per second of CPU (user + system) of one process on one BLAS thread, including decoding,
the best of five passes that take turns. Memory is the peak of a fresh process that computes the frames (64 bands) of all
clips in two other processes and then gathers one epoch of random batches of 512 windows. It is also measured for a complete
`train fit`, including TensorFlow (`mimii-mel` with one epoch). `--long` adds 10 hours.
"""

import os

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.report import Table, make_parser, publish
from benchmarks.speed.quick_bundle import write_recipe
from monitor.arrays import F32
from monitor.scoring.front_end import LogMelSpec
from train.datasets import Piece, pieces, read_dataset
from train.features.cache import cached_frames
from train.features.frames import WindowSet, piece_frames
from train.synth import Fan, Scene

ROOT = Path(__file__).parents[2]
RATE_HZ, CLIP_S, MINUTES, PASSES, BATCH = 16000, 10, 10, 5, 512
SPEC = LogMelSpec(sample_rate_hz=RATE_HZ, n_fft=1024, hop_length=512, n_mels=64, fmax_hz=8000.0)


def main() -> None:
    """Print all tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--long", action="store_true", help="10 hours, too")
    parser.add_argument("--only", choices=("speed", "frames", "fit"), help="one table")
    parser.add_argument("--child", choices=("frames", "fit"), help=argparse.SUPPRESS)
    parser.add_argument("--on", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps({"frames": use, "fit": fit}[arguments.child](arguments.on)))
        return
    publish(tables(arguments), arguments.json)


def tables(arguments: argparse.Namespace) -> Iterator[Table | str]:
    """The selected tables, each with its aim."""
    hours = (1, 10) if arguments.long else (1,)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples = np.concatenate(list(Scene(machine=Fan(0), take=50).chunks(60.0 * MINUTES)))
        if arguments.only in (None, "speed"):
            yield from speed(samples, folder)
        if arguments.only != "speed":
            sets = {n: write_clips(folder / f"{n}h", samples, n=n * 3600 // CLIP_S) for n in hours}
        if arguments.only in (None, "frames"):
            yield from memory(sets)
        if arguments.only in (None, "fit"):
            yield from memory_of_fit(sets)


def write_clips(folder: Path, samples: F32, *, n: int) -> Path:
    """A plain data set of `n` clips, all different."""
    (folder / "normal").mkdir(parents=True)
    whole = CLIP_S * RATE_HZ
    for i in range(n):
        turn, place = divmod(i * whole, len(samples))
        clip = np.roll(samples, -(turn * 997 + place))[:whole] if turn else samples[place : place + whole]
        soundfile.write(folder / "normal" / f"{i:05d}.flac", clip, RATE_HZ)
    return folder


def speed(samples: F32, folder: Path) -> Iterator[Table | str]:
    """Seconds of sound per CPU second."""
    clips = pieces(read_dataset(write_clips(folder / "speed", samples, n=60)).clips, sample_rate_hz=RATE_HZ)
    long = folder / "long.flac"
    soundfile.write(long, samples, RATE_HZ)
    whole = [Piece(type(clips[0].recording)(long, sample_rate_hz=RATE_HZ))]
    works: dict[str, Callable[[Path], object]] = {
        "frames of 10 s clips": lambda _: [piece_frames(clip, SPEC, tick_frames=32) for clip in clips],
        "frames of 10 s clips into the cache (hashed, written, mapped)": lambda cache: read(clips, cache),
        "frames of one long recording into the cache": lambda cache: read(whole, cache),
        "librosa.load, melspectrogram, power_to_db of 10 s clips": lambda _: usual_way(clips),
    }
    usual_way(clips[:1])
    rows = dict.fromkeys(works, 0.0)
    for number in range(PASSES):
        for name, work in works.items():
            began = time.process_time()
            work(folder / f"cache{number}-{name[:25]}")
            rows[name] = max(rows[name], 60.0 * MINUTES / (time.process_time() - began))
    _, cached, *_, librosa = rows.values()
    cells = [[name, f"{value:,.0f}", f"{value / librosa:.1f}"] for name, value in rows.items()]
    yield Table("speed", ["seconds of sound a CPU second, FLAC", "", "x librosa"], cells)
    yield f"aim: 2,000 into the cache; got {cached:,.0f}"


def read(some: Sequence[Piece], cache: Path) -> object:
    """Compute frames in this process, with an empty cache."""
    return cached_frames(some, SPEC, tick_frames=32, folder=cache, workers=1)


def usual_way(some: Sequence[Piece]) -> object:
    """The usual code of a notebook."""
    import librosa

    frames = []
    for piece in some:
        sound, rate_hz = librosa.load(piece.recording.path, sr=None)
        mel = librosa.feature.melspectrogram(y=sound, sr=rate_hz, n_fft=1024, hop_length=512, n_mels=64, power=2.0)
        frames.append(librosa.power_to_db(mel))
    return frames


def memory(sets: Mapping[int, Path]) -> Iterator[Table | str]:
    """The peak memory of a fresh process that computes and gathers frames, for each number of hours."""
    columns = {"wall_s": ".1f", "batch_ms": ".2f", "hwm": ".0f", "anon": ".0f", "worker": ".0f", "frames": ".0f"}
    header = ["hours", "wall s for frames", "ms a batch", "VmHWM MB", "RssAnon MB at most", "a worker's peak MB", "frames MB"]
    yield Table("memory", header, child_rows("frames", sets, columns))
    yield "VmHWM counts mapped pages of the cache, which the kernel takes back when it needs them; RssAnon does not."


def memory_of_fit(sets: Mapping[int, Path]) -> Iterator[Table | str]:
    """The peak memory of a complete `train fit`, for each number of hours."""
    columns = dict.fromkeys(("wall_s", "hwm", "anon", "worker"), ".0f")
    header = ["hours", "wall s of train fit", "VmHWM MB", "RssAnon MB at most", "a worker's peak MB"]
    yield Table("memory of train fit", header, child_rows("fit", sets, columns))
    yield "aim: VmHWM below 2,000, whatever the hours"


def child_rows(what: str, sets: Mapping[int, Path], columns: Mapping[str, str]) -> Iterator[list[object]]:
    """A row for each number of hours: these measurements, each in its format."""
    for hours, clips in sets.items():
        measured = child(what, clips)
        yield [hours, *(format(measured[key], shape) for key, shape in columns.items())]


def child(what: str, clips: Path) -> dict[str, float]:
    """The measurements of a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed.features", "--child", what, "--on", str(clips)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    return dict(json.loads(out.splitlines()[-1]))


def use(folder: Path) -> dict[str, float]:
    """Compute the frames of a data set and gather one epoch of batches. Returns the memory used, MB."""
    some = pieces(read_dataset(folder).clips, sample_rate_hz=RATE_HZ)
    began = time.perf_counter()
    cached = cached_frames(some, SPEC, tick_frames=32, folder=folder / "cache", workers=2)
    frames = [run for one in cached for run in one.runs]
    wall_s, anon = time.perf_counter() - began, status("RssAnon")
    windows = WindowSet(frames, n_frames=5)
    windows.band_statistics()
    order = np.random.default_rng(0).permutation(len(windows))
    began = time.perf_counter()
    for first in range(0, len(order), BATCH):
        windows.windows(order[first : first + BATCH])
        if not first % (100 * BATCH):
            anon = max(anon, status("RssAnon"))
    return {
        "wall_s": wall_s,
        "batch_ms": 1000 * (time.perf_counter() - began) / -(-len(order) // BATCH),
        "hwm": status("VmHWM"),
        "anon": anon,
        "worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        "frames": sum(one.nbytes for one in frames) / 1e6,
    }


def fit(folder: Path) -> dict[str, float]:
    """Run `train fit` in this process. Returns the memory used, MB."""
    from train.cli.main import main as train

    path = write_recipe("mimii-mel", folder.with_suffix(".yaml"))
    os.environ["XDG_CACHE_HOME"] = str(folder.with_suffix(".cache"))
    anon = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            anon[0] = max(anon[0], status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    failed = train(["fit", str(folder), "--recipe", str(path), "--out", str(folder.with_name("bundle"))])
    done.set()
    watcher.join()
    if failed:
        sys.exit(failed)
    return {
        "wall_s": time.perf_counter() - began,
        "hwm": status("VmHWM"),
        "anon": anon[0],
        "worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def status(name: str) -> float:
    """A value of /proc/self/status, MB."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
