"""`api/stream`: server-sent events, the same for a node and for many."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from typing import Generic, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from monitor.web.problems import Problem

COMMENT_EVERY_S = 15.0
MAX_STREAMS = 100
RETRY_MS = 2_000


Entry = TypeVar("Entry")


class Reader(Protocol[Entry]):
    """An open stream: what is waiting for it. It is ended when it lags behind."""

    waiting: asyncio.Queue[Entry]
    lagged: bool


class Source(Protocol[Entry]):
    """Provides the streams' content."""

    def viewer(self, machine: str | None, last_id: str | None) -> AbstractContextManager[tuple[Reader[Entry], Iterator[str]]]:
        """A stream, and the texts that are sent first."""
        ...

    def with_id(self, entry: Entry) -> str:
        """An entry as text."""
        ...


class Streams(Generic[Entry]):
    """The open streams."""

    def __init__(self, feed: Source[Entry]) -> None:
        self._feed = feed
        self._n_open = 0

    def response(self, request: Request, machine: str | None, still_allowed: Callable[[], bool]) -> Response:
        """A stream that ends when `still_allowed` is false, checked every few seconds."""
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx passes it on unbuffered
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/event-stream")
        if self._n_open >= MAX_STREAMS:
            raise Problem(503, f"at most {MAX_STREAMS} streams can be open at once", headers={"Retry-After": "10"})
        last_id = request.headers.get("last-event-id") or request.query_params.get("last")
        return StreamingResponse(self._events(machine, last_id, still_allowed), 200, headers, "text/event-stream")

    async def _events(self, machine: str | None, last_id: str | None, still_allowed: Callable[[], bool]) -> AsyncIterator[str]:
        self._n_open += 1
        try:
            with self._feed.viewer(machine, last_id) as (viewer, texts):
                yield f"retry: {RETRY_MS}\n\n"
                for text in texts:
                    yield text
                    await asyncio.sleep(0)  # a client that is gone is noticed, and others are served
                loop = asyncio.get_running_loop()
                comment_at = loop.time() + COMMENT_EVERY_S
                while not viewer.lagged:
                    try:
                        entry = await asyncio.wait_for(viewer.waiting.get(), max(0.0, comment_at - loop.time()))
                        yield self._feed.with_id(entry)
                    except asyncio.TimeoutError:
                        yield ": the connection is alive\n\n"
                    if loop.time() >= comment_at:
                        comment_at = loop.time() + COMMENT_EVERY_S
                        if not still_allowed():
                            return
        finally:
            self._n_open -= 1
