"""Real toy cars (MLPerf Tiny's features): what is trained here detects, and int8 costs next to nothing."""

import os
from pathlib import Path

import numpy as np

from benchmarks.quality import CARS, FOLDS, Job, run_all


def test_int8_costs_next_to_no_auc(real_data: Path) -> None:
    """All 20 folds with `--long`, one of two cars without: then the mean scatters more."""
    assert (real_data / "toycar-ad01").is_dir()
    long = "LONG_TESTS" in os.environ
    jobs = (
        [Job("dcase", car, fold) for car in CARS for fold in range(FOLDS)] if long else [Job("dcase", car, 0) for car in CARS[:2]]
    )
    results = run_all(jobs, n_processes=2)
    auc = {kind: np.mean([r.aucs((kind, "reconstruction"))[0] for r in results]) for kind in ("float", "int8")}
    print(f"\nmean AUC over {len(jobs)} folds: float {auc['float']:.4f}, int8 {auc['int8']:.4f}")
    assert auc["float"] > 0.75
    assert auc["float"] - auc["int8"] <= (0.002 if long else 0.005)
