"""The interface of synthetic machines: a rotating shaft (or cycle), and sound that follows it."""

from typing import Protocol

from monitor.arrays import F64


class MachineSound(Protocol):
    """The running machine as a stream."""

    def push(self, index: int, t: F64, shaft: F64) -> F64:
        """Sound (n,) of chunk `index` at times t (n,), s, with the shaft at these angles (n,), radians."""
        ...


class Machine(Protocol):
    """One individual machine; `seed` makes it that individual."""

    @property
    def seed(self) -> int:
        """The number of the individual machine."""
        ...

    @property
    def sample_rate_hz(self) -> int:
        """Sample rate of its sound."""
        ...

    @property
    def shaft_hz(self) -> float:
        """Its nominal speed: turns, or cycles, per second."""
        ...

    @property
    def n_blades(self) -> int:
        """Blades, vanes or teeth that pass per turn."""
        ...

    def shaft_phase(self, t: F64, take: int) -> F64:
        """The shaft's angle, radians, at times t (n,), s, in this recording."""
        ...

    def sound(self, take: int) -> MachineSound:
        """The sound of this recording."""
        ...
