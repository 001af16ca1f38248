"""A clock that is set while the service runs."""

import time

import pytest

from monitor import clock as clock_module
from monitor.clock import Clock


class Computer:
    """Its wall clock, as it is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.behind_s = 1e6
        self.synced = False
        monkeypatch.setattr(clock_module, "_ahead_s", lambda: time.time() - time.monotonic() - self.behind_s)
        monkeypatch.setattr(clock_module, "clock_synced", lambda: self.synced)


def test_every_step_is_told_once_and_being_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(monkeypatch)
    told: list[tuple[float, bool]] = []

    def corrected(offset_s: float, *, synced: bool) -> None:
        told.append((offset_s, synced))

    clock = Clock()
    clock.poll(corrected)
    assert told == []
    computer.behind_s = 0.0  # set at once, believed later
    clock.poll(corrected)
    clock.poll(corrected)
    computer.synced = True
    clock.poll(corrected)
    clock.poll(corrected)
    assert told == [(pytest.approx(1e6, abs=0.1), False), (0.0, True)]
    assert clock.synced


def test_a_clock_that_is_set_and_believed_at_once_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computer = Computer(monkeypatch)
    told: list[tuple[float, bool]] = []
    clock = Clock()
    computer.behind_s, computer.synced = 0.0, True
    for _ in range(3):
        clock.poll(lambda offset_s, *, synced: told.append((offset_s, synced)))
    ((offset_s, synced),) = told
    assert offset_s == pytest.approx(1e6, abs=0.1)
    assert synced
