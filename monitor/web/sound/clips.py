"""Sound and pictures of events, passed through from the service, with ranges."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from monitor.web.problems import Problem
from monitor.web.service import Refused, Service

MAX_FILE = 16_000_000
KEPT_BYTES, KEPT_S = 4_000_000, 30.0  # browsers ask for several ranges of a file
MAX_SENDING = 4  # files at once, each of which is in memory
TURN_S = 10.0
PIECE = 65_536


class Clips:
    """The files of events, a few of which stay in memory for a moment."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._sending = asyncio.Semaphore(MAX_SENDING)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until another file may be sent."""
        try:
            await asyncio.wait_for(self._sending.acquire(), TURN_S)
        except asyncio.TimeoutError:
            raise Problem(503, "too many files are being sent; try again", headers={"Retry-After": "10"}) from None
        try:
            yield
        finally:
            self._sending.release()

    async def load(self, do: str, event_id: str) -> bytes:
        """The file; Problem 404 with the service's reason if there is none."""
        key, now = (do, event_id), monotonic()
        while self._kept and (self._kept_bytes() > KEPT_BYTES or next(iter(self._kept.values()))[0] < now - KEPT_S):
            self._kept.popitem(last=False)
        if key not in self._kept:
            try:
                _, content = await self._service.download(do, id=event_id, max_bytes=MAX_FILE)
            except Refused as refused:
                raise Problem(404, str(refused)) from None
            self._kept[key] = (now, content)
        return self._kept[key][1]

    def _kept_bytes(self) -> int:
        return sum(len(content) for _, content in self._kept.values())


class ClipResponse(Response):
    """One file of an event, or a range of it."""

    def __init__(self, clips: Clips, do: str, event_id: str, media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._clips = clips
        self._what = do, event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. The file is in memory only while it is this response's turn."""
        request = Request(scope)
        async with self._clips.turn():
            content = await self._clips.load(*self._what)
            first, stop = self._decide(request, content)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if request.method != "HEAD":
                for at in range(first, stop, PIECE):
                    await send({"type": "http.response.body", "body": content[at : min(at + PIECE, stop)], "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    def _decide(self, request: Request, content: bytes) -> tuple[int, int]:
        """The bytes to send; sets status and headers."""
        size = len(content)
        first, stop = 0, size
        etag = f'"{"-".join(self._what)}-{size}"'
        self.headers.update({"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-cache"})
        if request.headers.get("if-none-match") == etag:
            self.status_code, stop = 304, 0
        elif request.headers.get("if-range", etag) == etag and (found := _range(request.headers.get("range", ""), size)):
            first, stop = found
            self.status_code = 206 if stop else 416
            self.headers["Content-Range"] = f"bytes {first}-{stop - 1}/{size}" if stop else f"bytes */{size}"
        self.headers["Content-Length"] = str(stop - first if self.status_code != 304 else size)
        return first, stop


def _range(text: str, size: int) -> tuple[int, int] | None:
    """Where a range begins and ends; (0, 0) if the file has no such bytes, None if the header is to be ignored."""
    found = re.fullmatch(r"bytes=(\d{0,15})-(\d{0,15})", text)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        first, stop = max(0, size - int(found[2])), size
    else:
        first, stop = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < int(found[1]):
            return None
    return (first, stop) if first < stop else (0, 0)
