"""Whole recordings of every format are read. tests/fuzz.py reads damaged ones."""

from pathlib import Path

from monitor.audio.recording import Recording
from tests.audio.mutants import RATE_HZ, recordings


def test_whole_recordings_of_every_format_are_read(tmp_path: Path) -> None:
    for number, (suffix, content) in enumerate(recordings()):
        path = tmp_path / f"{number:02d}.{suffix}"
        path.write_bytes(content)
        n_samples = sum(len(block.samples) for block in Recording(path, sample_rate_hz=RATE_HZ).blocks())
        assert 23_900 <= n_samples <= 26_500, path.name  # lossy formats are padded
