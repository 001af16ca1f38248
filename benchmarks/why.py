"""What events say of tones, band noise, missing harmonics and impulses that are added to a real slide rail's held-out sound.

    python -m benchmarks.why [CASES]

Data: ../shared/data/slide-rail-id00 (MIMII, through DCASE 2020 Task 2). Trained on every other normal clip; CASES (60) of each
kind in streams of three of the others, through the bundle's pipeline. What is right is computed from the added signals alone: a
band is right when each of its ends is within one mel band of the mel bands that the added sound lies in; the level is the
power of that moment's sound, injected and clean, in the named band, over the mean (in dB) of the training clips' power there,
from their whole periodograms. For missing harmonics the normal sound is the rail with a hum of twelve, here and in training.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.slide_rail import DATA, ROOT
from monitor.bundle import load_bundle
from monitor.bundle.bundle import Bundle
from monitor.core.arrays import F64
from monitor.core.block import Block
from monitor.core.event import Anchor, Event, Identity
from monitor.core.mel import hz_to_mel
from monitor.core.pipeline import Pipeline

RATE_HZ = 16000
CLIPS = 3  # in a stream
HUM_HZ, N_HARMONICS = 237.0, 12
LEVELS_DB = (15.0, 25.0)  # of the added sound over what is usual in its band
KINDS = ("tone", "noise", "missing", "impulses")


@dataclass(frozen=True)
class Case:
    """What an event should say: where (Hz), or which rate."""

    sound: F64
    low_hz: float
    high_hz: float
    rate_hz: float | None = None


@dataclass(frozen=True)
class Result:
    """Whether an event was raised, whether it was right (the first band, or any), the level's error, the rate's."""

    raised: bool
    first: bool = False
    named: bool = False
    level_error_db: float | None = None
    rate_error: float | None = None  # None: none was named
    is_false_rate: bool = False


class Normal:
    """The power that is usual between two frequencies, by training clips (n, samples)."""

    def __init__(self, clips: Sequence[F64]) -> None:
        self._spectra = np.array([np.abs(np.fft.rfft(clip)) ** 2 / len(clip) ** 2 for clip in clips])
        self._hz = np.fft.rfftfreq(len(clips[0]), 1 / RATE_HZ)

    def power_db(self, low_hz: float, high_hz: float) -> float:
        """The mean of the clips' power, dB."""
        inside = (self._hz >= low_hz) & (self._hz < high_hz)
        return float(np.mean(10.0 * np.log10(self._spectra[:, inside].sum(axis=1))))


def power_db(sound: F64, low_hz: float, high_hz: float) -> float:
    """Its power between two frequencies, dB."""
    hz = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2 / len(sound) ** 2 / 0.375
    return float(10.0 * np.log10(power[(hz >= low_hz) & (hz < high_hz)].sum()))


def hum(n: int, *, levels_db: Sequence[float], without: int | None = None) -> F64:
    """Harmonics, each with its power, dB."""
    t = np.arange(n) / RATE_HZ
    powers = 10.0 ** (np.array(levels_db) / 10.0)
    tones = (2.0 * np.sqrt(p) * np.sin(2 * np.pi * k * HUM_HZ * t + k) for k, p in enumerate(powers, 1) if k != without)
    return np.asarray(sum(tones), np.float64)


def make_case(kind: str, clean: F64, normal: Normal, limits_hz: F64, draw: np.random.Generator) -> Case:
    """Sound with a difference in it, so many dB over what is usual in its band."""
    n = len(clean)
    over_db = draw.uniform(*LEVELS_DB)
    first = int(draw.integers(8, len(limits_hz) - 14))
    low_hz, high_hz, rate_hz = limits_hz[first], limits_hz[first + 1], None
    if kind == "tone":
        hz = draw.uniform(low_hz, high_hz)
        added = np.sin(2 * np.pi * hz * np.arange(n) / RATE_HZ)
    elif kind == "noise":
        low_hz, high_hz = draw.uniform(low_hz, high_hz), draw.uniform(*limits_hz[[first + 3, first + 10]])
        spectrum, hz_of = np.fft.rfft(draw.standard_normal(n)), np.fft.rfftfreq(n, 1 / RATE_HZ)
        added = np.fft.irfft(np.where((hz_of >= low_hz) & (hz_of < high_hz), spectrum, 0.0), n)
    else:
        rate_hz, carrier_hz = float(np.exp(draw.uniform(np.log(3.0), np.log(280.0)))), draw.uniform(1500.0, 6500.0)
        at = (np.arange(1, int(n / RATE_HZ * rate_hz)) + draw.uniform() - 0.5) / rate_hz
        at += draw.normal(0.0, 0.01 / rate_hz, len(at))
        train = np.zeros(n)
        np.add.at(train, np.clip(np.rint(at * RATE_HZ).astype(int), 0, n - 1), draw.lognormal(0.0, 0.15, len(at)))
        t = np.arange(400) / RATE_HZ
        added = np.convolve(train, np.exp(-t / draw.uniform(0.001, 0.003)) * np.sin(2 * np.pi * carrier_hz * t))[:n]
        low_hz, high_hz, over_db = carrier_hz - 150.0, carrier_hz + 150.0, over_db - 5.0
    gain_db = normal.power_db(low_hz, high_hz) + over_db - power_db(added, low_hz, high_hz)
    return Case(clean + 10.0 ** (gain_db / 20.0) * added, low_hz, high_hz, rate_hz)


def listen(bundle: Bundle, sound: F64) -> Event | None:
    """The event that begins, if one does."""
    manifest = bundle.manifest
    pipeline = Pipeline(
        bundle.scorer(),
        threshold=manifest.calibration.threshold,
        rule=manifest.rule,
        expected=bundle.expected,
        identity=Identity(node="why", machine="rail", bundle=bundle.id, session="0"),
        anchor=Anchor(utc=datetime(1970, 1, 1, tzinfo=timezone.utc), sample_rate_hz=RATE_HZ, synced=True),
    )
    steps = pipeline.push(Block(0, sound.astype(np.float32)))
    return next((step.event for step in steps if step.event is not None), None)


def judge(case: Case, event: Event | None, normal: Normal, bundle: Bundle) -> Result:
    """Compare what was said with what was done."""
    if event is None:
        return Result(raised=False)
    limits = bundle.manifest.front_end.band_limits_hz()
    spec = bundle.manifest.scorer_spec
    stop = round(event.ts.timestamp() * RATE_HZ)
    heard = case.sound[stop - spec.segment_ticks * spec.tick_frames * spec.front_end.hop_length : stop]
    mel = [hz_to_mel(hz) for hz in limits]
    step = float(np.median(np.diff(mel)))
    low, high = np.searchsorted(limits, case.low_hz, side="right") - 1, np.searchsorted(limits, case.high_hz)
    ends = mel[low], mel[max(high, low + 1)]

    def is_there(low_hz: float, high_hz: float) -> bool:
        return all(abs(hz_to_mel(hz) - end) < 1.1 * step for hz, end in zip((low_hz, high_hz), ends, strict=True))

    def overlaps(low_hz: float, high_hz: float) -> bool:
        return low_hz < case.high_hz and high_hz > case.low_hz

    fits: Callable[[float, float], bool] = overlaps if case.rate_hz is not None else is_there
    right = [fits(band.low_hz, band.high_hz) for band in event.bands]
    error = None
    if any(right):
        band = event.bands[right.index(True)]
        usual = normal.power_db(band.low_hz, band.high_hz)
        error = band.excess_db - (power_db(heard, band.low_hz, band.high_hz) - usual)
    rate = event.impulses_hz
    rate_error = None if rate is None or case.rate_hz is None else abs(rate / case.rate_hz - 1.0)
    return Result(True, right[:1] == [True], any(right), error, rate_error, case.rate_hz is None and rate is not None)


def train(clips: Sequence[F64], folder: Path) -> Bundle:
    """A bundle of the recipe `default`."""
    (folder / "set" / "normal").mkdir(parents=True)
    for number, clip in enumerate(clips):
        soundfile.write(folder / "set" / "normal" / f"{number:03d}.wav", clip, RATE_HZ, "FLOAT")
    command = [
        sys.executable,
        "-m",
        "train.cli",
        "fit",
        str(folder / "set"),
        "--recipe",
        "default",
        "--out",
        str(folder / "rail"),
    ]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return load_bundle(folder / "rail")


def run(kinds: Sequence[str], n_cases: int, folder: Path) -> dict[str, list[Result]]:
    """Results by kind."""
    clips = [soundfile.read(path)[0] for path in sorted((DATA / "normal").glob("*.wav"))]
    known, held_out = clips[::2], clips[1::2]
    found: dict[str, list[Result]] = {}
    for with_hum in (False, True):
        these = [kind for kind in kinds if (kind == "missing") == with_hum]
        if not these:
            continue
        rail = Normal(known)
        levels_db = [rail.power_db(0.98 * k * HUM_HZ, 1.02 * k * HUM_HZ) + 15.0 for k in range(1, N_HARMONICS + 1)]
        training = [clip + hum(len(clip), levels_db=levels_db) for clip in known] if with_hum else known
        bundle, normal = train(training, folder / f"{with_hum}"), Normal(training)
        limits_hz = bundle.manifest.front_end.band_limits_hz()
        for kind in these:
            draw = np.random.default_rng([7, KINDS.index(kind)])
            found[kind] = []
            for number in range(n_cases):
                clean = np.concatenate([held_out[(number * 5 + i * 7) % len(held_out)] for i in range(CLIPS)])
                if kind == "missing":
                    gone = int(draw.integers(2, N_HARMONICS + 1))
                    sound = clean + hum(len(clean), levels_db=levels_db, without=gone)
                    case = Case(sound, gone * HUM_HZ, gone * HUM_HZ)
                else:
                    case = make_case(kind, clean, normal, limits_hz, draw)
                found[kind].append(judge(case, listen(bundle, case.sound), normal, bundle))
    return found


def share(values: Sequence[bool]) -> float:
    """How many of them hold."""
    return float(np.mean(values)) if len(values) else float("nan")


def main() -> None:
    """Print the table."""
    if not DATA.is_dir():
        sys.exit(f"{DATA.relative_to(ROOT.parent)} is not there: this benchmark needs the real recordings beside the project")
    n_cases = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        found = run(KINDS, n_cases, Path(folder))
    print("| kind | cases | events | right band, any of five | first | level within 2 dB | rate within 3 % | false rates |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for kind, results in found.items():
        told = [one for one in results if one.raised]
        errors = [abs(one.level_error_db) <= 2.0 for one in told if one.level_error_db is not None]
        rates = share([one.rate_error is not None and one.rate_error <= 0.03 for one in told])
        rate = f"{rates:.1%}" if kind == "impulses" else "-"
        false = sum(one.is_false_rate for one in told)
        named, first = share([one.named for one in told]), share([one.first for one in told])
        print(f"| {kind} | {len(results)} | {len(told)} | {named:.1%} | {first:.1%} | {share(errors):.1%} | {rate} | {false} |")


if __name__ == "__main__":
    main()
