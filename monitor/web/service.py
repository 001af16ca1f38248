"""The connection to the service: requests and streams over its control socket. Nothing here blocks."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from monitor.errors import StethosError
from monitor.json_lines import to_json

ANSWER_S = 5.0
MAX_LINE = 4_000_000  # bytes of an answer
MAX_REQUESTS = 4  # at once, so that the page leaves connections to the tools
MAX_WAITING = 40  # more requests than this are refused
AWAY = "the service does not run; start it with: sudo systemctl start stethos"
SILENT = "the service does not answer"


class Away(StethosError):
    """The service cannot be reached."""


class Refused(StethosError):
    """The service refuses the request; the text is its reason."""


class Service:
    """The service whose control socket is at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._free = asyncio.Semaphore(MAX_REQUESTS)
        self._n_waiting = 0

    async def request(self, do: str, *, within_s: float = ANSWER_S, **arguments: Any) -> dict[str, Any]:
        """The service's answer to one request."""
        async with self._turn(), self.open(do, within_s=within_s, **arguments) as (body, _):
            return body

    async def download(self, do: str, *, max_bytes: int, **arguments: Any) -> tuple[dict[str, Any], bytes]:
        """The answer, and the bytes that follow it, whose number is its `size`."""
        async with self._turn(), self.open(do, **arguments) as (body, reader):
            if not 0 <= body["size"] <= max_bytes:
                raise Refused(f"the file is larger than {max_bytes / 1e6:g} MB")
            try:
                return body, await asyncio.wait_for(reader.readexactly(body["size"]), 4 * ANSWER_S)
            except (asyncio.IncompleteReadError, asyncio.TimeoutError, OSError):
                raise Away(SILENT) from None

    @asynccontextmanager
    async def open(
        self, do: str, *, within_s: float = ANSWER_S, **arguments: Any
    ) -> AsyncIterator[tuple[dict[str, Any], asyncio.StreamReader]]:
        """The answer and, while the context lasts, the stream that follows it."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.path), limit=MAX_LINE)
        except (FileNotFoundError, ConnectionRefusedError):
            raise Away(AWAY) from None
        except PermissionError:
            raise Away(f"this process may not access {self.path}, only the group of the service may") from None
        except OSError as error:
            raise Away(f"{self.path}: {error.strerror or error}") from None
        try:
            writer.write(to_json({"do": do, **arguments}).encode() + b"\n")
            yield await asyncio.wait_for(_answer(reader), within_s), reader
        except (asyncio.TimeoutError, ConnectionError):
            raise Away(SILENT) from None
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._n_waiting >= MAX_WAITING:
            raise Away("too many requests at once; try again")
        self._n_waiting += 1
        try:
            async with self._free:
                yield
        finally:
            self._n_waiting -= 1


async def _answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        body = json.loads(await reader.readline())
    except ValueError:  # too long, or cut off
        raise Away(SILENT) from None
    if not isinstance(body, dict):
        raise Away(SILENT)
    if "error" in body:
        raise Refused(str(body["error"]))
    return body
