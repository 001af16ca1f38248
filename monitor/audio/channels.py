"""Find dead and inverted channels of a recording, which change or cancel the mean of its channels."""

import numpy as np

from monitor.arrays import F32

DEAD_DBFS = -90.0  # less than the last bit of a 16-bit converter
INVERTED = -0.9  # correlation of a channel with the sum of the others


class ChannelCheck:
    """Power and correlation of the channels, from all samples pushed."""

    def __init__(self, n_channels: int) -> None:
        self._n = 0
        self._sums = np.zeros(n_channels)
        self._powers = np.zeros(n_channels)
        self._rest_sums = np.zeros(n_channels)  # of the sum of the other channels
        self._rest_powers = np.zeros(n_channels)
        self._products = np.zeros(n_channels)

    def push(self, chunk: F32) -> None:
        """Add samples (n, n_channels)."""
        sound = chunk.astype(np.float64)
        rest = sound.sum(axis=1, keepdims=True) - sound
        self._n += len(sound)
        self._sums += sound.sum(axis=0)
        self._rest_sums += rest.sum(axis=0)
        self._powers += np.einsum("nc,nc->c", sound, sound)
        self._rest_powers += np.einsum("nc,nc->c", rest, rest)
        self._products += np.einsum("nc,nc->c", sound, rest)

    def problem(self) -> str | None:
        """The dead or inverted channels in one line, with the remedy; None if there are none."""
        n = max(1, self._n)
        power = self._powers / n - np.square(self._sums / n)
        rest_power = self._rest_powers / n - np.square(self._rest_sums / n)
        product = self._products / n - self._sums * self._rest_sums / n**2
        dead = power < 10.0 ** (DEAD_DBFS / 10)
        if dead.all() or len(dead) == 1:
            return None
        inverted = ~dead & (product < INVERTED * np.sqrt(np.maximum(power * rest_power, 1e-30)))
        use = f"use --channel {1 + int(np.argmax(np.where(dead | inverted, -1.0, power)))}"
        if dead.any():
            return f"{_names(dead)} silent; {use}"
        if inverted.all():
            return f"{_names(inverted)} inverted against each other and cancel; {use}"
        return f"{_names(inverted)} inverted; {use}" if inverted.any() else None


def _names(mask: "np.typing.NDArray[np.bool_]") -> str:
    numbers = [str(number) for number in np.flatnonzero(mask) + 1]
    return f"channel {numbers[0]} is" if len(numbers) == 1 else f"channels {', '.join(numbers[:-1])} and {numbers[-1]} are"
