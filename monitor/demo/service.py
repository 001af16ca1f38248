"""The daemon of the demonstration: `python -m monitor.demo.service CONFIG PLAN`, PLAN being JSON, {selector: [file, …]}.

It stops when its standard input closes, that is, when its parent exits.
"""

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from monitor.audio.capture_process import CaptureLauncher
from monitor.daemon.daemon import run_daemon
from monitor.demo.playback import playback_command
from monitor.errors import StethosError


def main(arguments: list[str]) -> int:
    """Run until stopped; return the exit status."""
    plan = {selector: [Path(name) for name in names] for selector, names in json.loads(arguments[1]).items()}
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    try:
        return run_daemon(Path(arguments[0]), os.environ, CaptureLauncher(playback_command(plan)))
    except StethosError as error:
        print(f"monitor: error: {error}", file=sys.stderr)
        return error.exit_status


def _stop_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
