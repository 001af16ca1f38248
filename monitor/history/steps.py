"""Scores in steps of 10 s, as arrays and as compact bytes."""

import zlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.errors import StethosError

STEP_S = 10
STATES = ("starting", "normal", "anomaly", "idle", "unknown", "disabled", "learning")
RATIOS = ("ratio_mean", "ratio_min", "ratio_max", "ratio_p50", "ratio_p95")
LEVELS = ("rms_mean", "rms_min", "rms_max")
# One row per step: its start in s since 1970, the number of scores, and the fraction of time in each state. NaN: no value.
DTYPE = np.dtype([("t", "<i8"), ("n", "<i4"), *((name, "<f4") for name in (*RATIOS, *LEVELS)), ("states", "<f4", (len(STATES),))])
Steps: TypeAlias = npt.NDArray[Any]  # (m,) of DTYPE

MAX_BYTES = 1_000_000  # of encoded steps
MAX_STEPS = 1_000  # in one block
_PLAIN, _WITH_LEARNING = b"\x01", b"\x02"  # a machine is `learning` once, so that column is left out where it is zero
_NONE = np.int16(-32_768)
_RATIO = 50.0  # steps of 2 %
_LEVEL = 5.0  # steps of 0.2 dB
_FRACTION = 20.0  # steps of 5 %
_RATIO_COLUMNS = range(2, 2 + len(RATIOS))  # of the table; the first two are `t` and `n`
_LEVEL_COLUMNS = range(2 + len(RATIOS), 2 + len(RATIOS) + len(LEVELS))


class DamagedSteps(StethosError):
    """The bytes are not encoded steps."""


def encode(steps: Steps) -> bytes:
    """Steps as compressed bytes. Ratios are rounded to 2 %, levels to 0.2 dB.

    The columns of a group, such as the ratios, are stored relative to its first one, and that relative to the row before. Sums
    and differences wrap around.
    """
    is_learning = bool(steps["states"][:, -1].any())
    ratios = [_whole(_RATIO * _log(steps[name])) for name in RATIOS]
    levels = [_whole(_LEVEL * steps[name]) for name in LEVELS]
    table = np.stack(
        [
            _change(_whole(steps["t"] / STEP_S % 30_000)),
            _whole(np.minimum(steps["n"], 30_000)),
            *(_change(ratios[0]), *(column - ratios[0] for column in ratios[1:])),
            *(_change(levels[0]), *(column - levels[0] for column in levels[1:])),
            *(_whole(_FRACTION * steps["states"][:, i]) for i in range(len(STATES) - (not is_learning))),
        ]
    )
    first = int(steps["t"][0]).to_bytes(8, "little", signed=True)
    planes = np.ascontiguousarray(table).view(np.uint8).reshape(-1, 2).T  # low bytes, then high bytes
    return (_WITH_LEARNING if is_learning else _PLAIN) + first + zlib.compress(planes.tobytes(), 9)


def decode(data: bytes) -> Steps:
    """The steps of `encode`; DamagedSteps if they are not."""
    n_states = len(STATES) - (data[:1] == _PLAIN)
    n_columns = 2 + len(RATIOS) + len(LEVELS) + n_states
    max_bytes = 2 * n_columns * MAX_STEPS
    try:
        unpacker = zlib.decompressobj()
        plain = unpacker.decompress(data[9:], max_bytes)
        if data[:1] not in (_PLAIN, _WITH_LEARNING) or not unpacker.eof or not plain or len(plain) % (2 * n_columns):
            raise DamagedSteps("its format is not known")
    except zlib.error as error:
        raise DamagedSteps(str(error)) from error
    table = np.frombuffer(plain, np.uint8).reshape(2, -1).T.copy().view("<i2").reshape(n_columns, -1)
    for group in (range(1), _RATIO_COLUMNS, _LEVEL_COLUMNS):
        table[group[0]] = np.cumsum(table[group[0]], dtype=np.int16)
        table[group[1:]] += table[group[0]]
    steps = np.zeros(table.shape[1], DTYPE)
    first = int.from_bytes(data[1:9], "little", signed=True)
    steps["t"] = first + STEP_S * ((table[0].astype(np.int64) - int(table[0][0])) % 30_000)
    steps["n"] = table[1]
    for name, i in zip(RATIOS, _RATIO_COLUMNS, strict=True):
        steps[name] = np.exp(_values(table[i]) / _RATIO)
    for name, i in zip(LEVELS, _LEVEL_COLUMNS, strict=True):
        steps[name] = _values(table[i]) / _LEVEL
    steps["states"][:, :n_states] = table[-n_states:].T / _FRACTION
    return steps


def _change(column: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    return np.asarray(np.diff(column, prepend=np.int16(0)), np.int16)


def _log(ratios: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.log(np.clip(ratios.astype(np.float64), 1e-6, 1e9))


def _whole(values: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    rounded = np.clip(np.rint(values), -32_767, 32_767)
    whole: npt.NDArray[np.int16] = np.where(np.isnan(rounded), _NONE, rounded).astype(np.int16)
    return whole


def _values(column: npt.NDArray[np.int16]) -> npt.NDArray[np.float64]:
    return np.where(column == _NONE, np.nan, column)
