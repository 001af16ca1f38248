"""Estimate the cost of a bundle from its sizes, before anything of these sizes exists, and refuse one that is too large."""

import math
from dataclasses import dataclass

from monitor.bundle.detector import make_features
from monitor.bundle.manifest import Manifest
from monitor.bundle.network import Network
from monitor.bundle.statistics import MAX_STATES, statistics_shapes
from monitor.errors import BundleError
from monitor.scoring.front_end import LogMelSpec

MEL_BLOCK = 256  # bins per matrix product (monitor/scoring/filter_bank.py)
FFT_ROWS = 16  # frames per transform (monitor/scoring/front_end.py)


@dataclass(frozen=True)
class Budget:
    """Limits of memory, of the time per tick and of the time to load, on a Raspberry Pi 3."""

    n_bytes: int
    tick_s: float
    load_s: float


DEVICE = Budget(n_bytes=64_000_000, tick_s=1.0, load_s=60.0)
WORKSTATION = Budget(n_bytes=2_000_000_000, tick_s=60.0, load_s=3600.0)  # `train` also makes bundles for study


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a bundle on a Raspberry Pi 3."""

    n_bytes: float
    tick_s: float
    load_s: float
    statistics_bytes: int  # of the file at most


def check_budget(manifest: Manifest, network: Network | None, budget: Budget) -> Cost:
    """The cost of a bundle, without its network if there is none yet. BundleError if it exceeds the budget."""
    cost, length_s = estimate(manifest, network), manifest.scorer_spec.tick_s
    limit_s = min(budget.tick_s, length_s) if budget is DEVICE else budget.tick_s  # a device must keep up with the sound
    if cost.n_bytes > budget.n_bytes:
        raise BundleError(
            f"bundle is too large: it would need {cost.n_bytes / 1e6:,.0f} MB of memory (at most {budget.n_bytes / 1e6:,.0f} MB)"
        )
    if cost.tick_s > limit_s:
        raise BundleError(
            f"bundle is too slow: scoring {length_s:.3g} s of sound would take {cost.tick_s:.3g} s on a Raspberry Pi "
            f"(at most {limit_s:.3g} s)"
        )
    if cost.load_s > budget.load_s:
        raise BundleError(
            f"bundle is too slow: loading it would take {cost.load_s:,.0f} s on a Raspberry Pi (at most {budget.load_s:,.0f} s)"
        )
    return cost


def estimate(manifest: Manifest, network: Network | None) -> Cost:
    """The cost by the sizes of arrays and the number of operations. The factors are those of a Raspberry Pi 3, rounded up."""
    spec, front_end = manifest.scorer_spec, manifest.front_end
    n_fft, n_bands, n_frames = front_end.n_fft, front_end.n_bands, manifest.tick_frames
    n_bins, n_rows = n_fft // 2 + 1, n_frames // manifest.window.hop_frames
    tick = n_frames * front_end.hop_length + n_fft
    segment = manifest.segment_ticks * n_frames * front_end.hop_length + n_fft
    row = (len(spec.input_frames) + len(spec.target_frames)) * n_bands
    blocks = n_bins // MEL_BLOCK + 1
    is_mel = isinstance(front_end, LogMelSpec)
    shapes = statistics_shapes(
        n_bands=n_bands,
        sample_rate_hz=front_end.sample_rate_hz,
        features=make_features(manifest.detector, n_bands=n_bands),
        n_components=len(manifest.detector.components),
        fast=True,
        n_states=MAX_STATES,
    )
    sizes = {key: math.prod(shape) for key, shape in shapes.items()}
    squares = sum(size for key, size in sizes.items() if key.endswith("_whitening"))
    n_sums = 2 * sum(size for key, size in sizes.items() if key.endswith("_scale")) + 2

    n_bytes = 16.0 * tick + 4.0 * segment  # samples
    n_bytes += max(12.0 * segment, 40.0 * n_bands * n_bins if is_mel else 0.0)  # to describe an event, or to compute the filters
    n_bytes += 4.0 * manifest.segment_ticks * n_frames * n_bands + 8.0 * manifest.segment_ticks * n_sums
    n_bytes += 40.0 * min(FFT_ROWS, n_frames) * n_fft + 8.0 * n_frames * n_bins
    n_bytes += 4.0 * (manifest.window.n_frames + 4 * n_frames) * n_bands + (16.0 * n_rows + 40.0) * row
    n_bytes += 16.0 * sum(sizes.values())
    tick_s = 3e-3 + 1e-6 * manifest.segment_ticks + 2e-8 * tick + 8e-9 * manifest.segment_ticks * n_sums
    tick_s += 1e-8 * n_frames * n_fft * math.log2(n_fft)
    tick_s += 3e-5 * blocks + 1e-9 * n_frames * MEL_BLOCK * (n_bands + 3 * blocks) if is_mel else 4e-9 * n_frames * n_bins
    tick_s += 1e-7 * n_frames * n_bands + 4e-8 * n_rows * row + 1.6e-8 * MAX_STATES * squares
    if network is not None:
        n_bytes += 2.0 * network.weight_bytes + 1.0 * n_rows * network.row_bytes
        tick_s += 1e-9 * n_rows * network.row_macs + 1e-9 * n_rows * network.row_bytes
    load_s = manifest.segment_ticks * tick_s + 5e-6 * segment
    return Cost(n_bytes, tick_s, load_s, statistics_bytes=1_000_000 + 8 * sum(sizes.values()))
