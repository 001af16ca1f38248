"""A pytest plugin for `scripts/mutate`: which functions of `monitor` each test calls, and how long it takes.

The result is written to the file `CALLS` as JSON: seconds of processor time, and file and first line of each function, by test.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

ROOT = f"{Path.cwd()}/monitor/"
found: dict[str, tuple[float, set[tuple[str, int]]]] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Record the calls of one test, fixtures included."""
    calls: set[tuple[str, int]] = set()

    def trace(frame: FrameType, _event: str, _argument: object) -> None:
        code = frame.f_code
        if code.co_filename.startswith(ROOT):
            calls.add((code.co_filename.removeprefix(ROOT), code.co_firstlineno))

    began_s = sum(os.times()[:4])
    sys.settrace(trace)
    threading.settrace(trace)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        threading.settrace(None)
        found[item.nodeid] = sum(os.times()[:4]) - began_s, calls


def pytest_sessionfinish() -> None:
    """Write what was found."""
    tests = {test: (round(seconds, 3), sorted(calls)) for test, (seconds, calls) in found.items()}
    Path(os.environ["CALLS"]).write_text(json.dumps(tests))
