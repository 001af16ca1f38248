"""The edge of resampled sound, on every real recording as it is, quieter, in 8 bits, and resampled from lower rates."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from monitor.arrays import F32, F64
from monitor.scoring.bandwidth import edge_hz


def seconds(samples: F64, rate_hz: int) -> Iterator[F32]:
    """Whole seconds that are loud enough to be scored."""
    for start in range(0, len(samples) - rate_hz + 1, rate_hz):
        part = samples[start : start + rate_hz]
        if np.sqrt(np.mean(part**2)) > 10.0**-4.5:
            yield part.astype(np.float32)


def as_16_bit(samples: F64) -> F64:
    return np.round(samples * 32768.0) / 32768.0


def resampled(samples: F64, rate_hz: int, low_hz: int) -> F64:
    return as_16_bit(soxr.resample(as_16_bit(soxr.resample(samples, rate_hz, low_hz)), low_hz, rate_hz))


def edges(files: list[Path], change: Callable[[F64, int], F64]) -> tuple[int, int]:
    """Seconds with an edge, and all seconds."""
    found = []
    for path in files:
        samples, rate_hz = soundfile.read(path, always_2d=True)
        found += [edge_hz(part, sample_rate_hz=rate_hz) is not None for part in seconds(change(samples[:, 0], rate_hz), rate_hz)]
    return sum(found), len(found)


@pytest.fixture(scope="module")
def recordings(real_data: Path) -> list[Path]:
    return sorted(path for path in real_data.rglob("*") if path.suffix in (".wav", ".flac"))


def test_no_recording_has_an_edge(recordings: list[Path], record_property: Callable[[str, object], None]) -> None:
    n_edges, n_seconds = edges(recordings, lambda samples, _: samples)
    record_property("figures", f"{n_edges} of {n_seconds} seconds of {len(recordings)} recordings have an edge")
    assert n_seconds > 1000
    assert n_edges == 0


@pytest.mark.parametrize("gain_db", [-20, -40, -60])
def test_no_quiet_recording_has_an_edge(recordings: list[Path], gain_db: int) -> None:
    n_edges, n_seconds = edges(recordings[::5], lambda samples, _: as_16_bit(samples * 10.0 ** (gain_db / 20.0)))
    assert n_seconds > 20
    assert n_edges == 0


def test_no_recording_in_8_bits_has_an_edge(recordings: list[Path]) -> None:
    assert edges(recordings[::5], lambda samples, _: np.round(samples * 128.0) / 128.0)[0] == 0


@pytest.mark.parametrize("low_hz", [8000, 11025, 12000, 15000])
def test_resampled_recordings_have_an_edge(
    recordings: list[Path], record_property: Callable[[str, object], None], low_hz: int
) -> None:
    n_edges, n_seconds = edges(recordings[::5], lambda samples, rate_hz: resampled(samples, rate_hz, low_hz))
    record_property("figures", f"from {low_hz} Hz: {n_edges} of {n_seconds} seconds have an edge")
    assert n_edges > 0.85 * n_seconds
