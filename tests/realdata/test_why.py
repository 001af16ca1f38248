"""What events say of differences that are added to a real slide rail's sound (benchmarks/why.py says how it is judged)."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.sounds.added import KINDS
from benchmarks.why import COLUMNS, Trial, rail
from monitor.bundle import load_bundle

N_CASES = 60 if os.environ.get("LONG_TESTS") else 12


@pytest.mark.usefixtures("real_data")
def test_events_name_the_right_band_level_and_rate(demo_bundle: Path, record_property: Callable[[str, object], None]) -> None:
    """The network has no part in it: the demo's serves."""
    bundle = load_bundle(demo_bundle)
    trial = Trial(bundle, *rail())
    found = {kind: trial.run(kind, N_CASES) for kind in KINDS}
    shares = {
        kind: {
            key: np.mean([vars(one)[key] for one in of])
            for key in COLUMNS
            if (kind, key) != ("missing", "known")  # what is taken away was not measured by itself
        }
        for kind, of in found.items()
    }
    record_property(
        "figures", "; ".join(f"{kind} {', '.join(f'{k} {v:.0%}' for k, v in of.items())}" for kind, of in shares.items())
    )
    for kind, of in shares.items():
        assert min(share for key, share in of.items() if key != "first") >= 0.95, kind
    assert np.mean([of["first"] for of in shares.values()]) >= 0.9


@pytest.mark.usefixtures("real_data")
def test_clean_sound_has_no_impulses(demo_bundle: Path) -> None:
    _, held_out = clips = rail()
    impulses_hz = Trial(load_bundle(demo_bundle), *clips).impulses()
    assert impulses_hz == [None] * len(held_out)
