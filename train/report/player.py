"""Audio players in the page: a few seconds of FLAC as data URIs, all with the same gain."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import soundfile

from monitor.arrays import F32
from train.evaluation.close_up import CloseUp
from train.report.style import NAMES

MAX_S = 10.0
_PEAK = 0.8
_MAX_GAIN_DB = 40.0


@dataclass(frozen=True)
class Player:
    """One clip to play."""

    title: str
    uri: str
    kind: ClassVar[str] = "player"


def players(details: Sequence[CloseUp]) -> tuple[list[Player], str]:
    """Players of the clips' first seconds, and a sentence on the gain."""
    heard = [detail.samples[: round(MAX_S * detail.rate_hz)] for detail in details]
    peak = max(float(np.abs(samples).max()) for samples in heard)
    gain_db = min(_MAX_GAIN_DB, float(20 * np.log10(_PEAK / max(peak, 1e-6))))
    gain = np.float32(10 ** (gain_db / 20))
    made = [
        Player(f"{NAMES[detail.score.clip.label].capitalize()}: {detail.score.name}", _flac_uri(gain * samples, detail.rate_hz))
        for detail, samples in zip(details, heard, strict=True)
    ]
    louder = "louder" if gain_db >= 0 else "softer"
    return made, f"Typical clips: at most the first {MAX_S:g} s, played {abs(gain_db):.0f} dB {louder} than recorded."


def _flac_uri(samples: F32, rate_hz: int) -> str:
    flac = io.BytesIO()
    soundfile.write(flac, np.clip(samples, -1.0, 1.0), rate_hz, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(flac.getvalue()).decode("ascii")
