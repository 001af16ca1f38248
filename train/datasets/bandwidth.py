"""What a recording's own rate can carry: sound over half of it is lost, and bands up there hear nothing."""

import sys
from collections.abc import Collection

from monitor.errors import SourceError
from monitor.scoring.bandwidth import empty_bands
from monitor.scoring.front_end import FrontEndSpec


def low_rates(rates_hz: Collection[int], spec: FrontEndSpec) -> str | None:
    """One sentence where recordings, given by their rates, cannot carry all bands; None where all can."""
    low = [rate_hz for rate_hz in rates_hz if empty_bands(rate_hz, spec)]
    if not low:
        return None
    rates = f"{min(low)} Hz" if len(set(low)) == 1 else f"{min(low)} to {max(low)} Hz"
    return (
        f"{len(low)} of {len(rates_hz)} recordings ({rates}) carry nothing above {min(low) / 2000:g} kHz, "
        f"where {empty_bands(min(low), spec)} of the model's {spec.n_bands} bands lie"
    )


def check_rates(rates_hz: Collection[int], spec: FrontEndSpec) -> None:
    """Every recording to learn from, given by its rate, carries some of the bands, else SourceError; a warning if not all."""
    check_some_bands(rates_hz, spec)
    warn_of_low_rates(rates_hz, spec)


def check_some_bands(rates_hz: Collection[int], spec: FrontEndSpec) -> None:
    """The same without the warning."""
    deaf = [rate_hz for rate_hz in rates_hz if empty_bands(rate_hz, spec) == spec.n_bands]
    if deaf:
        raise SourceError(
            f"{len(deaf)} of {len(rates_hz)} recordings carry nothing that the model hears: "
            f"all {spec.n_bands} bands lie above what {max(deaf)} Hz carries ({max(deaf) / 2000:g} kHz)"
        )


def warn_of_low_rates(rates_hz: Collection[int], spec: FrontEndSpec) -> str | None:
    """The sentence, which goes to stderr, too."""
    said = low_rates(rates_hz, spec)
    if said is not None:
        print(f"train: warning: {said}", file=sys.stderr)
    return said
