"""CPU seconds per hour of audio: our pipeline, the usual way, and the minimum, all in one run on the same sound.

    python -m benchmarks.speed.replay

Sound: 10 minutes of `train synth`, 16 kHz, through a plain 64-mel 5-frame autoencoder (models/demo-fan) and through a bundle of
the recipe `default`, trained for one epoch. CPU is the user + system time of this process on one BLAS thread, the minimum of
five passes that take turns. The speed of the computer cancels in the ratios.
"""

import os

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import librosa
import numpy as np
import scipy.fft
import soundfile
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.report import Table, make_parser, publish
from benchmarks.speed.quick_bundle import train_bundle
from monitor.arrays import F32
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.bundle import Bundle, load_bundle
from monitor.bundle.interpreter import TFLiteModel
from monitor.monitor import Monitor
from train.networks.networks import Layer, plain_network
from train.synth import Fan, Scene

ROOT = Path(__file__).parents[2]
MINUTES = 10
PASSES = 5
N_TIMES = 9  # each clip, side by side
BUNDLE = load_bundle(ROOT / "models" / "demo-fan")
N_FFT, HOP, ROWS, RATE_HZ = 1024, 512, 32, 16000
PLAIN, DEFAULT = "(a) plain bundle, samples in memory", "(a) `default` bundle, samples in memory"
USUAL = "(b) librosa and Keras predict, a 10 s file at a time"
FLOOR = "(c) floor: scipy.fft.rfft and bare int8 invokes"


def main() -> None:
    """Print the tables."""
    arguments = make_parser(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = np.concatenate(list(Scene(machine=Fan(0), take=50).chunks(60.0 * MINUTES)))
        paths = {suffix: Path(folder) / f"sound.{suffix}" for suffix in ("wav", "flac")}
        for path in paths.values():
            soundfile.write(path, samples, RATE_HZ)
        clips = [Path(folder) / f"{i:03d}.wav" for i in range(6 * MINUTES)]
        for clip, part in zip(clips, np.split(samples, len(clips)), strict=True):
            soundfile.write(clip, part, RATE_HZ)
        default = load_bundle(train_bundle("default", samples, Path(folder), rate_hz=RATE_HZ))
        works: dict[str, Callable[[], object]] = {
            PLAIN: lambda: run_monitor([Block(0, samples)]),
            "(a) plain, and decoding WAV": lambda: run_monitor(Recording(paths["wav"], sample_rate_hz=RATE_HZ).blocks()),
            "(a) plain, and decoding FLAC": lambda: run_monitor(Recording(paths["flac"], sample_rate_hz=RATE_HZ).blocks()),
            DEFAULT: lambda: run_monitor([Block(0, samples)], default),
            USUAL: usual_way(clips),
            FLOOR: floor(samples),
        }
        passes = [{name: cpu(work) for name, work in works.items()} for _ in range(PASSES)]
        rows = {name: min(one[name] for one in passes) for name in works}
        peak = {minutes: peak_memory_mb(samples, minutes, Path(folder)) for minutes in (10, 120)}
        wall_s = {words: wall(clips * N_TIMES, *words) for words in ((), ("--jobs", "2"))}
    plain, default_s, usual, least = (rows[name] for name in (PLAIN, DEFAULT, USUAL, FLOOR))
    one_s, two_s = wall_s.values()
    aims = [
        ["plain / floor", f"{plain / least:.2f}", "4"],
        ["default / floor", f"{default_s / least:.2f}", "6"],
        ["default / plain", f"{default_s / plain:.2f}", "at most 1.5"],
        ["(b) / plain", f"{usual / plain:.0f}", "at least 20"],
        [f"{N_TIMES * len(clips)} files of 10 s: {one_s:.1f} s / {two_s:.1f} s with `--jobs 2`", f"{one_s / two_s:.2f}", "1.8"],
        *([f"peak memory of a replay of {minutes} minutes, MB", f"{mb:.1f}", "under 80"] for minutes, mb in peak.items()),
    ]
    costs = [[name, f"{seconds:.3f}", f"{seconds / least:.1f}"] for name, seconds in rows.items()]
    tables = [Table("cost", ["CPU seconds an hour of audio", "", "x floor"], costs), Table("aims", ["", "measured", "aim"], aims)]
    publish(tables, arguments.json)


def wall(files: list[Path], *words: str) -> float:
    """Seconds that `monitor --replay` of these files takes."""
    command = [sys.executable, "-m", "monitor.cli.main", "--replay", *map(str, files), "--model", "models/demo-fan", *words]
    began_s = time.monotonic()
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
    return time.monotonic() - began_s


def cpu(work: Callable[[], object]) -> float:
    """CPU seconds that `work` on all the sound takes, per hour of audio."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 60 / MINUTES


def run_monitor(blocks: Iterable[Block], bundle: Bundle = BUNDLE) -> int:
    """Process the sound of a file like a replay, without sinks."""
    monitor = Monitor(bundle)
    return sum(1 for block in blocks for _ in monitor.push(block))


def usual_way(clips: list[Path]) -> Callable[[], object]:
    """The usual way, per 10 s file: librosa's log-mel, windows, Keras `predict`, mean squared error."""
    rng = np.random.default_rng(0)
    sizes = (320, 64, 64, 8, 64, 64, 320)
    layers = [
        Layer(rng.standard_normal(shape).astype(np.float32) * 0.05, np.zeros(shape[1], np.float32), "relu" if i < 5 else "linear")
        for i, shape in enumerate(itertools.pairwise(sizes))
    ]
    network = plain_network(layers)

    def score(clip: Path) -> float:
        samples, _ = librosa.load(clip, sr=None)
        mel = librosa.feature.melspectrogram(y=samples, sr=16000, n_fft=N_FFT, hop_length=HOP, n_mels=64, power=2.0)
        frames = (10.0 * np.log10(np.maximum(mel, 1e-10))).T
        windows = np.concatenate([frames[i : len(frames) - 4 + i] for i in range(5)], axis=1)
        return float(np.mean((windows - network.predict(windows, verbose=0)) ** 2))

    score(clips[0])
    return lambda: [score(clip) for clip in clips]


def floor(samples: F32) -> Callable[[], None]:
    """The minimum that any program with this front end and model must do."""
    n_ticks = (len(samples) - N_FFT) // (ROWS * HOP)
    interpreter = TFLiteModel((ROOT / "models/demo-fan/model.tflite").read_bytes(), n_rows=ROWS)._interpreter
    frames = sliding_window_view(samples, N_FFT)[::HOP]

    def work() -> None:
        for tick in range(n_ticks):
            scipy.fft.rfft(frames[tick * ROWS : (tick + 1) * ROWS])
            interpreter.invoke()

    return work


def peak_memory_mb(samples: F32, minutes: int, folder: Path) -> float:
    """VmHWM of a complete `monitor --replay` of a file of this length."""
    path = folder / f"{minutes}.wav"
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
        for _ in range(minutes // MINUTES):
            file.write(samples)
    code = "import sys; from monitor.cli.main import main; main(sys.argv[1:]); print(*open('/proc/self/status'), file=sys.stderr)"
    command = [sys.executable, "-c", code, "--replay", str(path), "--model", "models/demo-fan"]
    status = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stderr
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
