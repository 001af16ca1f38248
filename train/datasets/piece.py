"""A piece: a recording, or a part of one, that training and calibration read."""

from dataclasses import dataclass

from monitor.audio.recording import Recording


@dataclass(frozen=True)
class Piece:
    """A recording, or the part of it between two of its times."""

    recording: Recording
    start_s: float = 0.0
    stop_s: float = float("inf")
