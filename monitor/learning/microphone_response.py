"""The difference between a microphone and the one used in training: gain, smooth response, and an unexplained rest."""

from dataclasses import dataclass

import numpy as np

from monitor.arrays import F32, F64

MAX_GAIN_DB = 15.0
MAX_RESPONSE_DB = 12.0  # limit of the smooth part, without the gain
# Part of the rest that is also attributed to the microphone. Anything beyond is attributed to the machine.
ROUGH_DB = 1.0
# The same for losses in the first and last band, where filters and resampling cut off.
EDGE_DB = 12.0
N_SMOOTH = 6  # cosines over the bands, as smooth as the response of a microphone, its case and its position
SAME_GAIN_DB, SAME_BEND_DB = 1.5, 2.0  # below these, the microphone counts as unchanged


@dataclass(frozen=True)
class Offset:
    """Offset of the mean frame from that of training (n_bands,), dB: gain, smooth response, and rough rest."""

    gain_db: float
    smooth_db: F64
    rough_db: F64

    @property
    def is_as_trained(self) -> bool:
        """Whether no correction is needed."""
        return abs(self.gain_db) <= SAME_GAIN_DB and not self._bends and not self._ends

    @property
    def _bends(self) -> bool:
        return bool(np.abs(self.smooth_db).max() > SAME_BEND_DB)

    @property
    def _ends(self) -> bool:
        return bool(self.rough_db[[0, -1]].min() < -SAME_BEND_DB)

    def response_db(self, *, whole: bool = False) -> F32 | None:
        """The part attributed to the microphone (n_bands,), dB, or with `whole` all of it. None if it is negligible."""
        if whole:
            return (self.gain_db + self.smooth_db + self.rough_db).astype(np.float32)
        if self.is_as_trained:
            return None
        min_db = np.full(len(self.rough_db), -ROUGH_DB)
        min_db[[0, -1]] = -EDGE_DB
        return (self.gain_db + self.smooth_db + np.clip(self.rough_db, min_db, ROUGH_DB)).astype(np.float32)

    @property
    def violation(self) -> str | None:
        """The reason why a different microphone or position cannot explain the offset, or None."""
        for name, got, limit in (
            ("level", abs(self.gain_db), MAX_GAIN_DB),
            ("response", float(np.abs(self.smooth_db).max()), MAX_RESPONSE_DB),
        ):
            if got > limit:
                return f"its {name} is {got:.1f} dB off (at most {limit:g} dB are explained by another microphone)"
        return None

    def in_words(self, limits_hz: F64) -> str:
        """The offset as text. `limits_hz` (n_bands + 1,) are the band limits of the front end."""
        level = f"level {round(self.gain_db, 1) + 0.0:+.1f} dB"
        if self.is_as_trained:
            return f"{level}: microphone and gain have not changed since training"
        if not self._bends:
            return f"{level}: microphone or gain seems to have changed since training"
        peak = int(np.argmax(np.abs(self.smooth_db)))
        at_khz = (limits_hz[peak] + limits_hz[peak + 1]) / 2000.0
        return (
            f"{level}, and {self.smooth_db[peak]:+.1f} dB more at {at_khz:.1f} kHz: "
            "the microphone or its position seems to have changed since training"
        )


def compare(frames: F64, mean_db: F64) -> Offset:
    """Compare the mean frames of segments (n, n_bands), dB, with that of training (n_bands,).

    The median over segments is robust against a few unusual ones. The response of a microphone, like the effect of a change of
    position, is smooth over the bands. The tones and resonances of a machine are not.
    """
    offset = np.median(frames, axis=0) - mean_db
    gain_db = float(np.median(offset))
    bands = (np.arange(len(offset)) + 0.5) / len(offset)
    basis = np.cos(np.pi * np.outer(bands, np.arange(min(N_SMOOTH, len(offset)))))
    smooth = basis @ np.linalg.lstsq(basis, offset - gain_db, rcond=None)[0]
    return Offset(gain_db, smooth, offset - gain_db - smooth)
