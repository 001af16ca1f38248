import numpy as np
import pytest

from monitor.arrays import F32
from monitor.errors import ConfigError
from monitor.scoring.windows import Windows, WindowSpec, frame_columns

FRAMES = np.arange(96 * 3, dtype=np.float32).reshape(96, 3)


def whole_windows(n_frames: int, hop_frames: int, *, tick_frames: int = 32, last: int = 32) -> list[F32]:
    windows = Windows(WindowSpec(n_frames=n_frames, hop_frames=hop_frames), n_bands=3, tick_frames=tick_frames)
    rows: list[F32] = []
    for tick in range(3):
        part = FRAMES[32 * tick : 32 * tick + 32]
        found, valid = windows.push(part, last if tick == 2 else 32)
        assert found.shape == (windows.n_windows, n_frames * 3)
        rows += list(found[valid].copy())
    return rows


@pytest.mark.parametrize(("n_frames", "hop_frames"), [(1, 1), (5, 1), (5, 4), (32, 8), (40, 1), (64, 32)])
def test_windows_are_every_hop_of_the_stream(n_frames: int, hop_frames: int) -> None:
    wanted = [FRAMES[at : at + n_frames].reshape(-1) for at in range(0, 96 - n_frames + 1, hop_frames)]
    found = whole_windows(n_frames, hop_frames)
    assert len(found) == len(wanted)
    assert np.array_equal(found, wanted)


def test_no_window_looks_into_padding() -> None:
    assert len(whole_windows(5, 1, last=7)) == 64 - 4 + 7


def test_the_first_tick_has_no_window_that_begins_before_it() -> None:
    windows = Windows(WindowSpec(n_frames=5), n_bands=3, tick_frames=32)
    _, valid = windows.push(FRAMES[:32], 32)
    assert valid.tolist() == [False] * 4 + [True] * 28
    windows.reset()
    _, valid = windows.push(FRAMES[:32], 32)
    assert valid.sum() == 28


def test_a_hop_that_does_not_divide_the_tick_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hop_frames must divide tick_frames \(32\), got 5"):
        Windows(WindowSpec(n_frames=5, hop_frames=5), n_bands=3, tick_frames=32)


def test_columns_of_some_frames() -> None:
    window = np.arange(15)
    assert window[frame_columns((0, 1, 2, 3, 4), n_bands=3, of=5)].tolist() == list(range(15))
    assert window[frame_columns((2,), n_bands=3, of=5)].tolist() == [6, 7, 8]
    assert window[frame_columns((0, 1, 3, 4), n_bands=3, of=5)].tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14]
