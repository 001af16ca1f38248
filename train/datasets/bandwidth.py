"""Check sample rates of recordings: bands above half a recording's rate, or above an edge of its spectrum, are empty."""

import sys
from collections.abc import Collection

from monitor.errors import SourceError
from monitor.scoring.bandwidth import empty_bands
from monitor.scoring.front_end import FrontEndSpec
from train.datasets.survey import Surveyed


def low_rates(rates_hz: Collection[int], spec: FrontEndSpec) -> str | None:
    """A sentence if some recordings, given by their rates, have empty bands; None if none has."""
    low = [rate_hz for rate_hz in rates_hz if empty_bands(rate_hz, spec)]
    if not low:
        return None
    rates = f"{min(low)} Hz" if len(set(low)) == 1 else f"{min(low)} to {max(low)} Hz"
    return (
        f"{len(low)} of {len(rates_hz)} recordings ({rates}) contain nothing above {min(low) / 2000:g} kHz, "
        f"where {empty_bands(min(low), spec)} of the model's {spec.n_bands} bands lie"
    )


def check_rates(rates_hz: Collection[int], spec: FrontEndSpec) -> None:
    """SourceError if a recording, given by its rate, has only empty bands; a warning if some have empty bands."""
    too_low = [rate_hz for rate_hz in rates_hz if empty_bands(rate_hz, spec) == spec.n_bands]
    if too_low:
        raise SourceError(
            f"{len(too_low)} of {len(rates_hz)} recordings have no sound in the model's bands: "
            f"all {spec.n_bands} bands lie above half their rate ({max(too_low) / 2000:g} kHz at {max(too_low)} Hz)"
        )
    warn_of_low_rates(rates_hz, spec)


def warn_of_low_rates(rates_hz: Collection[int], spec: FrontEndSpec) -> str | None:
    """Print the sentence to stderr as a warning, and return it."""
    text = low_rates(rates_hz, spec)
    if text is not None:
        print(f"train: warning: {text}", file=sys.stderr)
    return text


def warn_of_edges(surveyed: Collection[Surveyed], spec: FrontEndSpec) -> None:
    """Print a warning to stderr if bands of recordings are empty although the rate would carry them."""
    cut = [one for one in surveyed if one.edge_hz is not None and empty_bands(round(2 * one.edge_hz), spec)]
    if not cut:
        return
    lowest, rate_hz = min((one.edge_hz or 0.0, one.rate_hz) for one in cut)
    print(
        f"train: warning: {len(cut)} of {len(surveyed)} recordings contain nothing above {lowest / 1000:.1f} kHz although their "
        f"rate is {rate_hz} Hz: they were resampled or compressed, and a microphone's sound will not match",
        file=sys.stderr,
    )
