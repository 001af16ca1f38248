"""A piece: what training and calibration read, a recording or a stretch of one."""

from dataclasses import dataclass

from monitor.audio.recording import Recording


@dataclass(frozen=True)
class Piece:
    """A recording, or the part of it between two of its times."""

    recording: Recording
    start_s: float = 0.0
    stop_s: float = float("inf")
