"""What a microphone hears otherwise than the one that was trained with: its gain, its response, and what neither explains."""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64

MOST_GAIN_DB = 15.0
MOST_RESPONSE_DB = 12.0  # of the smooth part, beside the gain
ROUGH_DB = 1.0  # so much of the rest is taken for the microphone's, too; what is above is the machine's
EDGE_DB = 12.0  # so much less, in the first and the last band: filters begin there, and resampling ends there
N_SMOOTH = 6  # cosines over the bands: bends that a microphone, its case and its place make
SAME_GAIN_DB, SAME_BEND_DB = 1.5, 2.0  # within this it is as in training


@dataclass(frozen=True)
class Offset:
    """Offsets of the mean frame from that of training (n_bands,), dB: gain, smooth response, and the rough rest."""

    gain_db: float
    smooth_db: F64
    rough_db: F64

    @property
    def is_as_trained(self) -> bool:
        """Whether there is nothing to correct."""
        return abs(self.gain_db) <= SAME_GAIN_DB and not self._bends and not self._ends

    @property
    def _bends(self) -> bool:
        return bool(np.abs(self.smooth_db).max() > SAME_BEND_DB)

    @property
    def _ends(self) -> bool:
        return bool(self.rough_db[[0, -1]].min() < -SAME_BEND_DB)

    def response_db(self, *, whole: bool = False) -> F32 | None:
        """What the microphone explains (n_bands,), dB, or `whole`, all of it; None where that is nothing."""
        if whole:
            return (self.gain_db + self.smooth_db + self.rough_db).astype(np.float32)
        if self.is_as_trained:
            return None
        least_db = np.full(len(self.rough_db), -ROUGH_DB)
        least_db[[0, -1]] = -EDGE_DB
        return (self.gain_db + self.smooth_db + np.clip(self.rough_db, least_db, ROUGH_DB)).astype(np.float32)

    @property
    def violation(self) -> str | None:
        """Why it is more than another microphone, or another place for it, would make."""
        for what, got, most in (
            ("level", abs(self.gain_db), MOST_GAIN_DB),
            ("response", float(np.abs(self.smooth_db).max()), MOST_RESPONSE_DB),
        ):
            if got > most:
                return f"its {what} is {got:.1f} dB off, more than the {most:g} dB that a microphone explains"
        return None

    def in_words(self, limits_hz: F64) -> str:
        """For people; `limits_hz` (n_bands + 1,) are the front end's."""
        level = f"level {round(self.gain_db, 1) + 0.0:+.1f} dB"
        if self.is_as_trained:
            return f"{level}: microphone and gain are as in training"
        if not self._bends:
            return f"{level}: microphone or gain seems to have changed since training"
        peak = int(np.argmax(np.abs(self.smooth_db)))
        at_khz = (limits_hz[peak] + limits_hz[peak + 1]) / 2000.0
        return (
            f"{level}, and {self.smooth_db[peak]:+.1f} dB beside that at {at_khz:.1f} kHz: "
            "the microphone or its place seems to have changed since training"
        )


def compare(frames: F64, mean_db: F64) -> Offset:
    """Compare segments' mean frames (n, n_bands), dB, with that of training (n_bands,).

    The median over segments counts: a few that are otherwise do not move it. A microphone's response is smooth over the
    bands, and so is what becomes of it elsewhere; a machine's tones and resonances are not.
    """
    offset = np.median(frames, axis=0) - mean_db
    gain_db = float(np.median(offset))
    bands = (np.arange(len(offset)) + 0.5) / len(offset)
    basis = np.cos(np.pi * np.outer(bands, np.arange(min(N_SMOOTH, len(offset)))))
    smooth = basis @ np.linalg.lstsq(basis, offset - gain_db, rcond=None)[0]
    return Offset(gain_db, smooth, offset - gain_db - smooth)
