"""The fast path: the delay until a scream is reported, and the margin of normal sound and bangs to the threshold.

    python -m benchmarks.fast [--minutes 60]

Each machine is learned from 40 takes of 10 s (the slide rail in ../shared/data from 50 of its 75 clips). Other takes are then
scored by the device's pipeline with the front end of the recipe `default`, in which segments never raise an event. Bangs
are 60 bursts of noise of 0.05 to 0.6 s, 15 to 40 dB over the machine. Each one crosses the border of two ticks, and they are
at least 10 s apart (three per clip on the slide rail). A scream is a tone of 150 Hz to 7 kHz, three harmonics or noise, 15 to
40 dB over the machine. It begins anywhere in a tick and does not stop. Its delay is measured from there to the end of the
deciding tick.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.random import Generator

from benchmarks.report import Table, make_parser, publish
from monitor.arrays import F32
from monitor.audio.recording import Recording
from monitor.block import Block
from monitor.events.decision import Rule
from monitor.events.event import Anchor, Identity
from monitor.events.pipeline import Pipeline, Result
from monitor.scoring.components import Detector, Reconstruction
from monitor.scoring.fast_path import Fast, excess_db, fit_fast, frequent_frames, lasting_frame
from monitor.scoring.frames import stream_frames
from monitor.scoring.scorer import Scorer
from train.recipes.recipe import load_recipe
from train.synth import MACHINES, Growth, Scene

RECIPE = load_recipe("default")
RATE_HZ = RECIPE.front_end.sample_rate_hz
TICK = RECIPE.tick_frames * RECIPE.front_end.hop_length
RAIL = Path(__file__).parents[2] / "shared" / "data" / "slide-rail-id00" / "normal"
QUIET = 0.002  # RMS of a machine, which leaves room for screams that are 40 dB louder
TAKE_S, N_BANGS, N_SCREAMS = 120.0, 60, 200
LEVELS_DB = (15.0, 20.0, 25.0, 30.0, 40.0)
KINDS = ("tone", "harmonics", "noise")
AIM_S = 3.0


@dataclass(frozen=True)
class Heard:
    """The result for many takes: their length, the events of the fast path, and the largest reached fraction of its threshold."""

    hours: float
    events: int
    largest: float


class Same:
    """A network that predicts its input, because the fast path does not need one."""

    def encode(self, frames: F32) -> F32:
        """The frames themselves."""
        return frames

    def predict(self, windows: F32) -> F32:
        """The windows themselves."""
        return windows


def main() -> None:
    """Print the tables."""
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of normal sound of each synthetic machine")
    arguments = parser.parse_args()
    publish(measure(arguments.minutes), arguments.json)


def measure(minutes: float) -> Iterator[Table | str]:
    """The table, and the cost."""
    columns = ["", "threshold, dB", "hours", "normal: largest ratio, events", f"{N_BANGS} bangs: largest ratio, events"]
    columns += [f"screams reported within {AIM_S:g} s at {', '.join(f'{level:g}' for level in LEVELS_DB)} dB", "latest, s"]
    yield Table("fast path", columns, rows(minutes))
    yield f"cost: {cost_us():.0f} us a tick"


def rows(minutes: float) -> Iterator[list[str]]:
    """The rows of the table."""
    for name in (*MACHINES, "slide rail"):
        if name == "slide rail" and not RAIL.is_dir():
            continue
        takes, learning = rail() if name == "slide rail" else synthetic(name, minutes)
        fast = learn(learning)
        rng = np.random.default_rng(1)
        normal, banged = (hear(some, fast) for some in (takes, list(with_bangs(takes, rng))))
        told = [(level_db, delay_s(takes[i % len(takes)], fast, rng, i, level_db)) for i, level_db in levels()]
        shares = (np.mean([s <= AIM_S for level, s in told if level == one]) for one in LEVELS_DB)
        found = [s for _, s in told if s <= 2 * AIM_S]
        largest = [f"{one.largest:.2f}, {one.events}" for one in (normal, banged)]
        reported = ", ".join(f"{share:.0%}" for share in shares)
        yield [name, f"{fast.threshold_db:.1f}", f"{normal.hours:.2f}", *largest, reported, f"{max(found):.2f}"]


def levels() -> Iterator[tuple[int, float]]:
    """The number and the level of each scream."""
    return ((i, LEVELS_DB[i // len(KINDS) % len(LEVELS_DB)]) for i in range(N_SCREAMS))


def synthetic(name: str, minutes: float, *, n_learning: int = 40) -> tuple[list[F32], list[F32]]:
    """Takes of a synthetic machine to score, and others to learn from."""
    machine = MACHINES[name](101)

    def take(number: int, seconds: float) -> F32:
        return np.concatenate(list(Scene(machine=machine, take=number, growth=Growth()).chunks(seconds)))

    hear = [take(1000 + i, TAKE_S) for i in range(max(1, round(minutes * 60 / TAKE_S)))]
    return _quiet(hear, [take(i, 10.0) for i in range(n_learning)])


def rail() -> tuple[list[F32], list[F32]]:
    """Clips of the slide rail to score, and others to learn from."""
    clips = [
        np.concatenate([b.samples for b in Recording(p, sample_rate_hz=RATE_HZ).blocks()]) for p in sorted(RAIL.glob("*.wav"))
    ]
    return _quiet(clips[2::3], [clip for i, clip in enumerate(clips) if i % 3 != 2])


def learn(takes: Sequence[F32]) -> Fast:
    """The fast path fitted to normal sound."""
    frames = (
        np.concatenate(list(stream_frames([Block(0, take)], RECIPE.front_end, tick_frames=RECIPE.tick_frames))) for take in takes
    )
    rows = np.concatenate([frequent_frames(one, tick_frames=RECIPE.tick_frames) for one in frames])
    fast = fit_fast(rows, limits_hz=RECIPE.front_end.band_limits_hz())
    assert fast is not None
    return fast


def listen(take: F32, fast: Fast) -> list[Result]:
    """The results of the device's pipeline for a take, with segments that never raise an event."""
    scorer = Scorer(RECIPE.scorer_spec, Same(), Detector([Reconstruction("mse")]))
    scorer.ceiling_db = fast.ceiling_db
    pipeline = Pipeline(
        scorer,
        threshold=1e9,
        fast_threshold=fast.threshold_db,
        rule=Rule(),
        expected=None,
        identity=Identity(node="pi", machine="machine", bundle="bundle", session="session"),
        anchor=Anchor(utc=datetime(2026, 1, 1, tzinfo=timezone.utc), sample_rate_hz=RATE_HZ, synced=True),
    )
    return [*pipeline.push(Block(0, take)), *pipeline.flush()]


def hear(takes: Sequence[F32], fast: Fast) -> Heard:
    """Score normal sound, with or without bangs."""
    steps = [step for take in takes for step in listen(take, fast)]
    excesses = [step.tick.excess_db for step in steps if step.tick.excess_db is not None]
    events = sum(step.event is not None and step.event.event_type == "start" for step in steps)
    return Heard(sum(map(len, takes)) / RATE_HZ / 3600, events, max(excesses) / fast.threshold_db)


def with_bangs(takes: Sequence[F32], rng: Generator) -> Iterator[F32]:
    """The takes with all bangs spread over them, in a long take at least 10 ticks apart."""
    each = -(-N_BANGS // len(takes))
    for take in takes:
        banged = take.copy()
        n_ticks = len(take) // TICK
        for slot in range(each):
            border = round((slot + 0.5) * n_ticks / each) * TICK
            n = round(rng.uniform(0.05, 0.6) * RATE_HZ)
            start = max(0, border - round(rng.uniform(0.0, 1.0) * n))
            level = QUIET * 10 ** (rng.uniform(15.0, 40.0) / 20)
            decay = np.exp(-np.arange(n) / n * rng.choice([0.0, 4.0]))
            stop = min(len(banged), start + n)
            banged[start:stop] += (level * decay * rng.standard_normal(n))[: stop - start].astype(np.float32)
        yield banged


def delay_s(take: F32, fast: Fast, rng: Generator, number: int, level_db: float) -> float:
    """The time from a scream's onset to its event; infinite if there is none."""
    onset = 3 * TICK + int(rng.uniform(0.0, TICK))
    sound = take[: 8 * TICK].copy()
    level = QUIET * 10 ** (level_db / 20)
    sound[onset:] += (level * scream(KINDS[number % len(KINDS)], len(sound) - onset, rng)).astype(np.float32)
    starts = [step.tick.stop for step in listen(sound, fast) if step.event is not None]
    tail = RECIPE.front_end.n_fft - RECIPE.front_end.hop_length  # the last frame is complete only after these samples
    return (starts[0] + tail - onset) / RATE_HZ if starts else np.inf


def scream(kind: str, n: int, rng: Generator) -> F32:
    """A steady sound (n,) with an RMS of 1."""
    t = np.arange(n) / RATE_HZ
    if kind == "noise":
        return rng.standard_normal(n).astype(np.float32)
    f_hz = np.exp(rng.uniform(np.log(150.0), np.log(7000.0 if kind == "tone" else 2300.0)))
    orders = (1,) if kind == "tone" else (1, 2, 3)
    sound = np.sum([np.sin(2 * np.pi * k * f_hz * t + k) / k for k in orders], axis=0)
    return np.asarray(sound / np.sqrt(np.mean(sound**2)), np.float32)


def cost_us() -> float:
    """The time that the fast path takes per tick, the minimum of many runs."""
    rng = np.random.default_rng(0)
    n_bands = RECIPE.front_end.n_bands
    ticks = [rng.normal(-40.0, 3.0, (RECIPE.tick_frames, n_bands)).astype(np.float32) for _ in range(2)]
    ceiling = np.zeros(n_bands, np.float32)
    least = np.inf
    for _ in range(500):
        began = time.perf_counter()
        excess_db(lasting_frame(np.concatenate(ticks)), ceiling)
        least = min(least, time.perf_counter() - began)
    return least * 1e6


def _quiet(hear: list[F32], learning: list[F32]) -> tuple[list[F32], list[F32]]:
    """All takes, at a level that leaves room for a scream."""
    gain = np.float32(QUIET / np.sqrt(np.mean(np.concatenate(hear) ** 2)))
    return [gain * take for take in hear], [gain * take for take in learning]


if __name__ == "__main__":
    main()
