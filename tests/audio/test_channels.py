"""Dead and inverted channels are named."""

import numpy as np
import pytest

from monitor.arrays import F32
from monitor.audio.channels import ChannelCheck
from tests.signals import hum, noise

N = 48_000
A, B, C = hum(1, N), hum(2, N), noise(3, N)
DEAD = np.full(N, 0.01, np.float32)


@pytest.mark.parametrize(
    ("channels", "problem"),
    [
        ([A, B], None),
        ([A, A], None),
        ([A, C], None),
        ([A], None),
        ([0 * A], None),
        ([DEAD, DEAD], None),
        ([A, -A], "channels 1 and 2 are inverted against each other and cancel; use --channel 1"),
        ([A, DEAD], "channel 2 is silent; use --channel 1"),
        ([DEAD, 0.5 * A, A], "channel 1 is silent; use --channel 3"),
        ([DEAD, A, 0 * A, 0 * A], "channels 1, 3 and 4 are silent; use --channel 2"),
        ([A, 0.9 * A, -A, 0.8 * A], "channel 3 is inverted; use --channel 1"),
    ],
)
def test_the_channels_at_fault_are_named(channels: list[F32], problem: str | None) -> None:
    check, sound = ChannelCheck(len(channels)), np.stack(channels, axis=1).astype(np.float32)
    for at in range(0, N, 1000):
        check.push(sound[at : at + 1000])
    assert check.problem() == problem
