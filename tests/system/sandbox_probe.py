"""Run by the unit before the daemon, inside its sandbox: what can be done in there? Prints JSON."""

import ctypes
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cffi  # type: ignore[import-untyped]


def outcome(action: Callable[[], object]) -> str:
    """`done`, or the name of the error."""
    try:
        action()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def write(folder: str) -> str:
    return outcome(lambda: Path(folder, "written-by-the-probe").write_text("x"))


def main(node: str, *folders: str) -> None:
    callback = cffi.FFI().callback("int(int)", lambda number: number + 1)
    credentials = Path(os.environ["CREDENTIALS_DIRECTORY"])
    found = {
        "write": {folder: write(folder) for folder in folders},
        "state": write(os.environ["STATE_DIRECTORY"]),
        "runtime": write(os.environ["RUNTIME_DIRECTORY"]),
        "sound": outcome(lambda: os.open(node, os.O_RDWR)),
        "memory": outcome(lambda: os.open("/dev/mem-probe", os.O_RDONLY)),
        "broker": outcome(lambda: socket.create_connection(("127.0.0.1", 1883), timeout=5).close()),
        "ask_clock": ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) >= 0,
        "set_clock": outcome(lambda: time.clock_settime(time.CLOCK_REALTIME, 0)),
        "memfd": outcome(lambda: os.memfd_create("ring")),
        "callback": callback(1),
        "proc": [name for name in ("cpuinfo", "stat", "meminfo") if outcome(Path("/proc", name).read_bytes) == "done"],
        "password": (credentials / "mqtt-password").read_text(),
        "uid": os.getuid(),
        "nicer": outcome(lambda: os.nice(10)),
        "less_nice": outcome(lambda: os.nice(-15)),
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
