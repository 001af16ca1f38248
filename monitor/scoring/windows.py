"""Windows: runs of consecutive frames, which are the model's input and target."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import DTypeLike, NDArray

from monitor.arrays import Bool
from monitor.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """The parameters of windows."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    n_frames: int
    hop_frames: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.n_frames <= 1024:
            raise ConfigError(f"n_frames must be in 1..1024, got {self.n_frames}")
        if not 1 <= self.hop_frames <= 1024:
            raise ConfigError(f"hop_frames must be in 1..1024, got {self.hop_frames}")


class Windows:
    """Cut the frames of consecutive ticks into windows: frames in dB, or as the network reads them, of this type.

    Every tick gives the same number of rows, tick_frames / hop_frames. Rows before the stream's first whole window and
    rows that contain padding are masked.
    """

    def __init__(self, spec: WindowSpec, *, n_bands: int, tick_frames: int, dtype: DTypeLike = np.float32) -> None:
        if tick_frames % spec.hop_frames:
            raise ConfigError(f"hop_frames must divide tick_frames ({tick_frames}), got {spec.hop_frames}")
        self._spec = spec
        self._tick_frames = tick_frames
        self._rows = np.zeros((spec.n_frames - 1 + tick_frames, n_bands), dtype)
        first = (spec.n_frames - 1) % spec.hop_frames
        self._ends = np.arange(first, tick_frames, spec.hop_frames)  # last frame of each window, within the tick
        all_windows = sliding_window_view(self._rows.reshape(-1), spec.n_frames * n_bands)[::n_bands]
        self._windows = all_windows[first :: spec.hop_frames]
        self._seen = 0

    @property
    def n_windows(self) -> int:
        """The number of rows per tick."""
        return len(self._ends)

    def reset(self) -> None:
        """Drop all frames. The next tick starts a new stream."""
        self._seen = 0

    def push(self, frames: NDArray[Any], n_valid: int) -> tuple[NDArray[Any], Bool]:
        """Append a tick's frames (tick_frames, n_bands), of which the first `n_valid` hold sound.

        Returns the windows (n_windows, n_frames * n_bands), oldest frame first, and a mask (n_windows,) of the complete ones.
        The windows are a view that the next push overwrites.
        """
        overlap = self._spec.n_frames - 1
        self._rows[:overlap] = self._rows[self._tick_frames :].copy()
        self._rows[overlap:] = frames
        valid = (self._ends < n_valid) & (self._seen + self._ends >= overlap)
        self._seen += n_valid
        return self._windows, valid


def frame_columns(frames: tuple[int, ...], *, n_bands: int, of: int) -> slice | list[int]:
    """The columns of a window (of * n_bands values) that hold the given frames; a slice if those are all of its frames."""
    if frames == tuple(range(of)):
        return slice(None)
    return [frame * n_bands + band for frame in frames for band in range(n_bands)]
