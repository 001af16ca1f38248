"""A process that opens a microphone and shares it on the control socket, as the service does."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from monitor.audio.microphone import Microphone
from monitor.daemon.control.shared_microphone import microphone_status, share_sound, shared_microphones
from monitor.daemon.control.socket import ControlServer
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]


@contextmanager
def sharing(
    path: Path,
    selector: str,
    environment: Mapping[str, str],
    *,
    private: bool = False,
    ring_s: float = 30.0,
    log: Path | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """One that has opened the microphone."""
    command = [
        sys.executable,
        "-m",
        "tests.daemon.control.sharing",
        str(path),
        selector,
        str(ring_s),
        *(["private"] if private else []),
    ]
    with (log or Path(os.devnull)).open("ab") as file:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stderr=file)
    try:
        wait_until(lambda: any(one.device for one in shared_microphones(path)))
        yield process
    finally:
        process.terminate()
        process.wait()


async def _share(path: Path, selector: str, ring_s: float, *, private: bool) -> None:
    microphone = Microphone(selector, wanted_rate_hz=16_000, ring_s=ring_s)
    server = ControlServer(
        path,
        {
            "microphones": lambda _: microphone_status([microphone]),
            "stream": lambda request: share_sound([microphone], request, private=private),
        },
    )
    await server.start()
    while True:
        microphone.poll()
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(_share(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), private="private" in sys.argv[4:]))
