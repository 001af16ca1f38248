"""Evaluate how events describe tones, band noise, impulses and missing harmonics that are added to normal sound.

    python -m benchmarks.why [CASES [SEED]]

Data: ../shared/data/slide-rail-id00 (MIMII, through DCASE 2020 Task 2), trained on every other normal clip, with the other
clips used for the cases, and synthetic machines. The frequency and level of every added sound are known. SEED (7) determines
them, and the individual machines. Each case is a separate stream of two clips, processed by the device's pipeline. The
description is evaluated, not the detection. The threshold is close to zero, so that every stream raises an event. Because
descriptions do not depend on the network, a single bundle of the recipe `default` suffices. Where the normal sound differs
from that of the bundle (the rail with a hum, the machines), the reference is learned separately.

A band is right if each of its ends is within one mel band of the corresponding end of the mel bands that contain the added
sound. For impulses, these are the bands in which its power is within 6 dB of its strongest mel band. The level is right if it
is within 2 dB of the actual level of the sound at that moment, added and clean, in the named band, relative to the usual
level. The usual level is the mean (in dB) of the training clips, each from a periodogram of the whole clip. The known level is
right if it is within 2 dB of the added sound plus the usual level, relative to the usual level. Here, the fluctuations of the
clean sound at that moment count as errors. All figures are fractions of all cases. If no band is right, the level of the first
one is evaluated. The held-out clips have differences of their own, such as tones of 15 dB that are in no training clip. A new
band is therefore one that is not named for the clean stream. If no impulses were added, the rate is right if none is named.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.report import Table, make_parser, publish
from benchmarks.slide_rail import DATA, ROOT
from benchmarks.sounds.added import KINDS, RATE_HZ, Case, Normal, added, hum, hum_levels_db, missing_harmonic, power_db
from monitor.arrays import F64
from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.bundle.load import Bundle
from monitor.events.event import Anchor, Event, Identity
from monitor.events.pipeline import Pipeline
from monitor.explain.bands import Band
from monitor.explain.describe import describe
from monitor.explain.profile import Profiler, SegmentProfile
from monitor.explain.reference import Reference, fit_reference
from monitor.scoring.features import FeatureExtractor
from monitor.scoring.mel import hz_to_mel
from monitor.scoring.scorer import ScorerSpec
from monitor.scoring.tick_sound import tick_sound
from train.synth import MACHINES, Growth, Scene

N_CASES = 60
CLIPS = 2  # per stream
LEVELS_DB = ((15.0, 25.0), (9.0, 14.0))  # of the added sound over the usual level in its band
SEED, N_MADE, CLIP_S = 7, 20, 10.0
NEXT_TO_NOTHING = 1e-6
COLUMNS = ("first", "new", "named", "level", "known", "rate")
LEVEL_DB, RATE = 2.0, 0.03  # maximum error of a right level (dB) and a right rate (relative)


@dataclass(frozen=True)
class Judge:
    """A bundle and a reference that describe the cases."""

    bundle: Bundle
    expected: Reference

    def listen(self, sound: F64) -> Event | None:
        """The event that begins, if any."""
        pipeline = Pipeline(
            self.bundle.scorer(),
            threshold=NEXT_TO_NOTHING,
            rule=self.bundle.manifest.rule,
            expected=self.expected,
            identity=Identity(node="why", machine="rail", bundle=self.bundle.id, session="0"),
            anchor=Anchor(utc=datetime(1970, 1, 1, tzinfo=timezone.utc), sample_rate_hz=RATE_HZ, synced=True),
        )
        steps = pipeline.push(Block(0, sound.astype(np.float32)))
        return next((step.event for step in steps if step.event is not None), None)


@dataclass(frozen=True)
class Result:
    """Whether the description was right.

    Three fields are about bands: the first one, the first one that is not named for the clean stream, and any. The others are
    about the two levels and the rate of impulses.
    """

    first: bool = False
    new: bool = False
    named: bool = False
    level: bool = False
    known: bool = False
    rate: bool = False


def judge(case: Case, event: Event | None, clean: Event | None, normal: Normal, spec: ScorerSpec) -> Result:
    """Compare the description with the added sound, and with the description of the clean stream."""
    if event is None:
        return Result()
    right = [is_there(band, case, spec.front_end.band_limits_hz()) for band in event.bands]
    own = () if clean is None else clean.bands
    is_new = [all(band.high_hz <= known.low_hz or band.low_hz >= known.high_hz for known in own) for band in event.bands]
    new = [is_right for is_right, counts in zip(right, is_new, strict=True) if counts or is_right]
    level = known = False
    if event.bands:
        band = event.bands[right.index(True) if any(right) else 0]
        stop = round(event.ts.timestamp() * RATE_HZ)
        segment = slice(stop - spec.segment_ticks * spec.tick_frames * spec.front_end.hop_length, stop)
        usual_db = normal.power_db(band.low_hz, band.high_hz)
        over_db, change_db = (
            power_db(sound[segment], band.low_hz, band.high_hz) - usual_db for sound in (case.sound, case.change)
        )
        level = abs(band.excess_db - over_db) <= LEVEL_DB
        known = abs(band.excess_db - 10.0 * np.log10(1.0 + 10.0 ** (change_db / 10.0))) <= LEVEL_DB
    rate, expected = event.impulses_hz, case.rate_hz
    is_rate = rate is None if expected is None else rate is not None and abs(rate / expected - 1.0) <= RATE
    return Result(right[:1] == [True], new[:1] == [True], any(right), level, known, is_rate)


def is_there(band: Band, case: Case, limits_hz: F64) -> bool:
    """Whether both ends of the band are within one mel band of those of the case."""
    mel = [hz_to_mel(hz) for hz in limits_hz]
    step = float(np.median(np.diff(mel)))
    low, high = np.searchsorted(limits_hz, case.low_hz + 0.1, side="right") - 1, np.searchsorted(limits_hz, case.high_hz - 0.1)
    ends = mel[low], mel[max(high, low + 1)]
    return all(abs(hz_to_mel(hz) - end) < 1.1 * step for hz, end in zip((band.low_hz, band.high_hz), ends, strict=True))


def learn_expected(clips: Sequence[F64], spec: ScorerSpec) -> Reference:
    """The reference learned from clips of normal sound."""
    portraits: list[SegmentProfile] = []
    for clip in clips:
        ear, profiler = (
            FeatureExtractor(spec.front_end, tick_frames=spec.tick_frames),
            Profiler(spec.front_end, segment_ticks=spec.segment_ticks),
        )
        portraits += [one for tick in ear.push(Block(0, clip.astype(np.float32))) for one in profiler.push(tick)]
        portraits += profiler.end()
    return fit_reference(portraits)


class Trial:
    """Cases of one normal sound, with and without a hum."""

    def __init__(self, bundle: Bundle, known: Sequence[F64], held_out: Sequence[F64], *, seed: int = SEED) -> None:
        self._bundle, self._held_out, self._seed = bundle, held_out, seed
        normal = Normal(known)
        self._hums_db = hum_levels_db(normal)
        hummed = Normal([clip + hum(len(clip), levels_db=self._hums_db) for clip in known])
        spec = bundle.manifest.scorer_spec
        self._heard = {
            one: (one_of, Judge(bundle, learn_expected(one_of.clips, spec))) for one, one_of in ((False, normal), (True, hummed))
        }
        self._own: dict[tuple[bool, int], Event | None] = {}

    def run(self, kind: str, n_cases: int, *, levels_db: tuple[float, float] = LEVELS_DB[0]) -> list[Result]:
        """The results of cases of one kind."""
        spec = self._bundle.manifest.scorer_spec
        limits_hz = spec.front_end.band_limits_hz()
        normal, hearer = self._heard[kind == "missing"]
        draw = np.random.default_rng([self._seed, KINDS.index(kind), round(levels_db[0])])
        results = []
        for number, clean in enumerate(streams(self._held_out, n_cases)):
            if kind == "missing":
                case = missing_harmonic(clean, self._hums_db, draw)
            else:
                case = added(kind, clean, normal, limits_hz, draw.uniform(*levels_db), draw)
            own = self._own_of(kind == "missing", number, case.sound - case.change)
            results.append(judge(case, hearer.listen(case.sound), own, normal, spec))
        return results

    def impulses(self) -> list[float | None]:
        """The rates of impulses that are named for clean sound."""
        _, hearer = self._heard[False]
        events = [hearer.listen(clean) for clean in streams(self._held_out, len(self._held_out))]
        return [None if event is None else event.impulses_hz for event in events]

    def _own_of(self, is_hum: bool, number: int, clean: F64) -> Event | None:
        """The event of a clean stream, if any."""
        if (is_hum, number) not in self._own:
            self._own[is_hum, number] = self._heard[is_hum][1].listen(clean)
        return self._own[is_hum, number]


def streams(clips: Sequence[F64], n: int) -> Iterator[F64]:
    """Streams of clips, all different for a while."""
    for number in range(n):
        yield np.concatenate([clips[(number * 5 + i * 7) % len(clips)] for i in range(CLIPS)])


def rail() -> tuple[list[F64], list[F64]]:
    """Normal clips of the slide rail: those to learn from, and those for the cases."""
    clips = [soundfile.read(path)[0] for path in sorted((DATA / "normal").glob("*.wav"))]
    return clips[::2], clips[1::2]


def synthetic(kind: str, *, seed: int = SEED) -> tuple[list[F64], list[F64]]:
    """Clips of a synthetic machine: those to learn from, and those for the cases."""
    scenes = [Scene(machine=MACHINES[kind](seed), take=take, growth=Growth()) for take in range(2 * N_MADE)]
    clips = [np.concatenate(list(scene.chunks(CLIP_S))).astype(np.float64) for scene in scenes]
    return clips[::2], clips[1::2]


def train(clips: Sequence[F64], folder: Path) -> Bundle:
    """A bundle of the recipe `default`."""
    (folder / "set" / "normal").mkdir(parents=True)
    for number, clip in enumerate(clips):
        soundfile.write(folder / "set" / "normal" / f"{number:03d}.wav", clip, RATE_HZ, "FLOAT")
    words = ["fit", folder / "set", "--recipe", "default", "--out", folder / "rail"]
    command = [sys.executable, "-m", "train.cli.main", *map(str, words)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return load_bundle(folder / "rail")


def price(bundle: Bundle, clip: F64) -> tuple[float, float]:
    """Milliseconds of CPU per tick for the data that a description needs, and per description."""
    spec, expected = bundle.manifest.scorer_spec, bundle.expected
    assert expected is not None and expected.envelope is not None
    ticks, scorer = (
        list(FeatureExtractor(spec.front_end, tick_frames=spec.tick_frames).push(Block(0, clip.astype(np.float32)))),
        bundle.scorer(),
    )
    for tick in ticks:
        scorer.score_tick(tick)
    began_s = time.process_time()
    for tick in ticks * 20:
        tick_sound(tick, spec.front_end)
    kept_s = time.process_time()
    for _ in range(20):
        describe(scorer.sounds(), expected, spec.front_end)
    return 50.0 * (kept_s - began_s) / len(ticks), 50.0 * (time.process_time() - kept_s)


def main() -> None:
    """Print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("cases", type=int, nargs="?", default=N_CASES, metavar="CASES")
    parser.add_argument("seed", type=int, nargs="?", default=SEED, metavar="SEED")
    arguments = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA.relative_to(ROOT.parent)} is not there: this benchmark needs the real recordings beside the project")
    publish(measure(arguments.cases, arguments.seed), arguments.json)


def measure(n_cases: int, seed: int) -> Iterator[Table | str]:
    """The table, and what descriptions cost."""
    known, held_out = rail()
    with tempfile.TemporaryDirectory() as folder:
        bundle = train(known, Path(folder))
    columns = ["dB over usual", "cases", "first band", "first new band", "any band", "level", "known level", "rate"]
    found = rows(bundle, known, held_out, n_cases=n_cases, seed=seed)
    yield Table("right descriptions", ["normal sound", "added", *columns], found)
    kept_ms, described_ms = price(bundle, held_out[0])
    yield f"CPU: {kept_ms:.2f} ms a tick for what a description needs; {described_ms:.0f} ms a description"


def rows(bundle: Bundle, known: Sequence[F64], held_out: Sequence[F64], *, n_cases: int, seed: int) -> Iterator[list[object]]:
    """The rows of the table."""
    for sound in ("slide rail", *MACHINES):
        trial = Trial(bundle, *(synthetic(sound, seed=seed) if sound in MACHINES else (known, held_out)), seed=seed)
        for levels_db in LEVELS_DB:
            for kind in KINDS if levels_db == LEVELS_DB[0] else KINDS[:-1]:
                results = trial.run(kind, n_cases, levels_db=levels_db)
                level = f"{levels_db[0]:g} to {levels_db[1]:g}" if kind != "missing" else "-"
                shares = [f"{np.mean([vars(one)[key] for one in results]):.1%}" for key in COLUMNS]
                if kind == "missing":
                    shares[COLUMNS.index("known")] = "-"
                yield [sound, kind, level, len(results), *shares]
        said = trial.impulses()
        yield [sound, "nothing", "-", len(said), *["-"] * 5, f"{np.mean([one is None for one in said]):.1%}"]


if __name__ == "__main__":
    main()
