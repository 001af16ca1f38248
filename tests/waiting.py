"""Wait for what takes as long as it takes."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], within_s: float = 30.0, *, what: str = "what is waited for") -> float:
    """Return as soon as the condition holds; how long that took, in s."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            raise AssertionError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began
