"""What events say of differences that are added to a real slide rail's sound (benchmarks/why.py says how it is judged)."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.added import KINDS
from benchmarks.why import LEVELS_DB, Judge, learn_expected, rail, run
from monitor.bundle import load_bundle

N_CASES = 60 if os.environ.get("LONG_TESTS") else 12


@pytest.mark.usefixtures("real_data")
def test_events_name_the_right_band_level_and_rate(demo_bundle: Path, record_property: Callable[[str, object], None]) -> None:
    """The network has no part in it: the demo's serves."""
    bundle = load_bundle(demo_bundle)
    found = {kind: run(bundle, *rail(), kind, N_CASES, levels_db=LEVELS_DB[0]) for kind in KINDS}
    results = [one for of in found.values() for one in of]
    shares = {key: np.mean([vars(one)[key] for one in results]) for key in ("first", "new", "named", "level", "rate")}
    record_property("figures", ", ".join(f"{key} {share:.1%}" for key, share in shares.items()))
    assert min(shares["new"], shares["named"], shares["level"], shares["rate"]) >= 0.95
    assert sum(not one.rate for one in found["impulses"]) <= 0.05 * N_CASES


@pytest.mark.usefixtures("real_data")
def test_clean_sound_has_no_impulses(demo_bundle: Path) -> None:
    bundle = load_bundle(demo_bundle)
    known, held_out = rail()
    hearer = Judge(bundle, learn_expected(known, bundle.manifest.scorer_spec))
    events = [hearer.listen(np.concatenate(pair)) for pair in zip(held_out[::2], held_out[1::2], strict=False)]
    assert len(events) == len(held_out) // 2
    assert [event.impulses_hz for event in events if event is not None] == [None] * len(events)
