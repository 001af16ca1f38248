"""What events say of differences that are added to a real slide rail's sound (benchmarks/why.py says how it is judged)."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.added import KINDS
from benchmarks.why import Trial, rail
from monitor.bundle import load_bundle

N_CASES = 60 if os.environ.get("LONG_TESTS") else 12


@pytest.mark.usefixtures("real_data")
def test_events_name_the_right_band_level_and_rate(demo_bundle: Path, record_property: Callable[[str, object], None]) -> None:
    """The network has no part in it: the demo's serves."""
    bundle = load_bundle(demo_bundle)
    trial = Trial(bundle, *rail())
    found = {kind: trial.run(kind, N_CASES) for kind in KINDS}
    results = [one for of in found.values() for one in of]
    shares = {key: np.mean([vars(one)[key] for one in results]) for key in ("first", "new", "named", "level", "rate")}
    record_property("figures", ", ".join(f"{key} {share:.1%}" for key, share in shares.items()))
    assert min(shares["new"], shares["named"], shares["level"], shares["rate"]) >= 0.95
    assert sum(not one.rate for one in found["impulses"]) <= 0.05 * N_CASES


@pytest.mark.usefixtures("real_data")
def test_clean_sound_has_no_impulses(demo_bundle: Path) -> None:
    _, held_out = clips = rail()
    impulses_hz = Trial(load_bundle(demo_bundle), *clips).impulses()
    assert impulses_hz == [None] * len(held_out)
