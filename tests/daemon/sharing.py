"""A process that holds a microphone and answers on the control socket as the service does."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from monitor.audio.microphone import Microphone
from monitor.daemon.control import ControlServer
from monitor.daemon.shared_microphone import lend, microphone_status, shared_microphones
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def lending(
    path: Path, selector: str, environment: Mapping[str, str], *, private: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """One that has the microphone open."""
    command = [sys.executable, "-m", "tests.daemon.lender", str(path), selector, *(["private"] if private else [])]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    try:
        wait_until(lambda: any(one.device for one in shared_microphones(path)))
        yield process
    finally:
        process.terminate()
        process.wait()


async def _lend(path: Path, selector: str, *, private: bool) -> None:
    microphone = Microphone(selector, wanted_rate_hz=16_000)
    server = ControlServer(
        path,
        {
            "microphones": lambda _: microphone_status([microphone]),
            "ring": lambda request: lend([microphone], request, private=private),
        },
    )
    await server.start()
    while True:
        microphone.poll()
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(_lend(Path(sys.argv[1]), sys.argv[2], private="private" in sys.argv[3:]))
