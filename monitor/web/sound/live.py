"""`live.pcm`: a machine's sound as it happens, for one listener at a time.

A child process reads and resamples it, so that this process needs no NumPy.
"""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from monitor.child_process import child_command
from monitor.web.access.gate import Visitor
from monitor.web.feed import Feed
from monitor.web.problems import Problem
from monitor.web.tasks import end

RATE_HZ = 16_000
STARTS_WITHIN_S = 15.0
SILENT_S = 10.0
MAX_S = 3_600.0
CHECK_S = 5.0  # how often the listener's session is checked
PIECE = 4_096


class Live:
    """Who listens. Everybody sees it."""

    def __init__(self, feed: Feed, socket: Path) -> None:
        self._feed = feed
        self._socket = socket
        self._taken = False

    def take(self, machine: str, by: str) -> None:
        """Become the listener; Problem 409 if somebody else is."""
        if self._taken:
            now = self._feed.listener or {"by": "somebody", "machine": machine}
            raise Problem(409, f"{now['by']} is listening to {now['machine']}; one can listen at a time")
        self._taken = True
        since = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._feed.set_listener({"machine": machine, "by": by, "since": since})

    def release(self) -> None:
        """Stop listening."""
        self._taken = False
        self._feed.set_listener(None)

    async def start(self, selector: str, channel: int | None) -> Process:
        """Start the child and wait for its sound; Problem with the reason if it gets none."""
        arguments = [str(self._socket), selector, str(channel or 0)]
        child = await asyncio.create_subprocess_exec(
            *child_command("monitor.web.sound.listen", *arguments), stdout=PIPE, limit=PIECE
        )
        try:
            assert child.stdout is not None
            answer = json.loads(await asyncio.wait_for(child.stdout.readline(), STARTS_WITHIN_S))
            if (reason := answer.get("error")) is not None:
                raise Problem(403 if "private" in reason else 503, f"cannot listen: {reason}")
        except (ValueError, asyncio.TimeoutError):
            await stop(child)
            raise Problem(503, "cannot listen: no sound arrives") from None
        except BaseException:
            await stop(child)
            raise
        return child


class LiveResponse(Response):
    """The sound of one machine until either side ends it, or the listener's session is over."""

    def __init__(self, live: Live, *, machine: str, who: Visitor, info: dict[str, Any]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Sample-Rate": str(RATE_HZ)}
        super().__init__(headers=headers, media_type=f"audio/L16;rate={RATE_HZ};channels=1;endianness=little-endian")
        del self.headers["content-length"]
        self._live = live
        self._machine, self._who = machine, who
        self._microphone = info["microphone"], info.get("channel")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send sound; the child ends with the response."""
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        self._live.take(self._machine, str(self._who.role))
        try:
            child = await self._live.start(*self._microphone)
            gone = asyncio.ensure_future(_gone(receive))
            sending = asyncio.ensure_future(self._send(child, send))
            try:
                for _ in range(round(MAX_S / CHECK_S)):
                    done, _ = await asyncio.wait((gone, sending), timeout=CHECK_S, return_when=asyncio.FIRST_COMPLETED)
                    if done or not self._who.still_allowed():
                        break
            finally:
                await end(gone, sending)
                await stop(child)
        finally:
            self._live.release()
        await send({"type": "http.response.body", "body": b""})

    async def _send(self, child: Process, send: Send) -> None:
        assert child.stdout is not None
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for piece in _pieces(child.stdout):
            await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _pieces(stdout: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Until the child ends, or no sound arrives."""
    while True:
        try:
            piece = await asyncio.wait_for(stdout.read(PIECE), SILENT_S)
        except asyncio.TimeoutError:
            return
        if not piece:
            return
        yield piece


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def stop(child: Process) -> None:
    """Kill the child, reap it and close its pipe, which would stay open as long as there is sound in it."""
    if child.returncode is None:
        child.kill()
    await child.communicate()
