"""Fit one machine as `train fit` does, and summarise its bundle for the page."""

import json
from collections.abc import Sequence
from pathlib import Path

from monitor.bundle.load import statistics_of
from monitor.bundle.write import STATISTICS
from train.datasets import Dataset
from train.fitting.fit import Choices, FitResult, fit
from train.fleet.jobs import Job
from train.fleet.summaries import Fitted
from train.recipes.recipe import Recipe


def fit_one(job: Job, data: Dataset, out: Path) -> FitResult:
    """Write the bundle `out`; returns what it was made from."""
    recipe = Recipe.model_validate_json(json.dumps(job.recipe))
    choices = Choices(recipe_name=job.recipe_name, seed=job.seed, method=recipe.method(), channel=job.channel)
    return fit(data, recipe, out, choices)


def summary_of(found: FitResult, data: Dataset, bundle: Path, *, key: str, warnings: Sequence[str]) -> Fitted:
    """What the page shows of a bundle."""
    manifest, calibration = found.manifest, found.manifest.calibration
    statistics = statistics_of(manifest, (bundle / STATISTICS).read_bytes())
    return Fitted(
        machine=manifest.name,
        key=key,
        recipe=manifest.provenance.recipe,
        n_recordings=found.n_recordings,
        n_anomaly=len({clip.recording for clip in data.labelled("anomaly")}),
        n_sessions=found.n_sessions,
        hours=round(found.hours, 5),
        is_enough=found.is_enough,
        promised_per_week=calibration.promised_per_week,
        promised_alarms_per_week=calibration.promised_alarms_per_week,
        bound_95_per_week=calibration.bound_95_per_week,
        score_mean=calibration.score_mean,
        score_std=calibration.score_std,
        front_end=repr(manifest.front_end),
        spectrum_db=tuple(round(float(value), 2) for value in statistics.expected.mean_db),
        warnings=tuple(warnings),
    )
