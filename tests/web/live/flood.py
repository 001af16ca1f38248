"""200 clients at once that do everything a client can do wrong; counts their answers. Arguments: port, cookie, seconds."""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

PATHS = (
    "machines",
    "machines/fan/history?step=10",
    "machines/fan/events",
    "node",
    "settings",
    "machines/fan/live.pcm",
    "nothing",
)
GET = "GET /api/{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nCookie: {}\r\nConnection: close\r\n\r\n"
POST = (
    "POST /api/{} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nCookie: {}\r\nX-Stethos: 1\r\nContent-Type: application/json\r\n"
    "Content-Length: {}\r\nConnection: close\r\n\r\n{}"
)


class Flood:
    """Clients of a page until a time."""

    def __init__(self, port: int, cookie: str, ends: float) -> None:
        self.answers: Counter[str] = Counter()
        self._port = port
        self._cookie = cookie
        self._ends = ends

    async def run(self) -> None:
        """Everybody at once."""
        behaviours = (
            self._ask,
            self._ask,
            self._look,
            self._freeze,
            self._order,
            self._talk_nonsense,
            self._log_in,
            self._hang_up,
        )
        each = zip(range(200), itertools.cycle(behaviours), strict=False)
        clients = [asyncio.create_task(self._again_and_again(behaviour, number)) for number, behaviour in each]
        _, left = await asyncio.wait(clients, timeout=self._ends - time.monotonic())
        while left:  # up to Python 3.11, `wait_for` may swallow a cancellation
            for client in left:
                client.cancel()
            _, left = await asyncio.wait(left, timeout=0.5)

    async def _again_and_again(self, behaviour: Callable[[int], Awaitable[None]], number: int) -> None:
        turns = itertools.count(number)
        while time.monotonic() < self._ends:
            await behaviour(next(turns))

    async def _ask(self, turn: int) -> None:
        await self._send(GET.format(PATHS[turn % len(PATHS)], self._port, self._cookie), read=200_000)

    async def _look(self, _: int) -> None:
        await self._send(GET.format("stream?machine=fan", self._port, self._cookie), read=1_000_000)

    async def _freeze(self, _: int) -> None:
        """Open a stream and read nothing."""
        await self._send(GET.format("stream?machine=fan", self._port, self._cookie), read=0, hold_s=5.0)

    async def _order(self, _: int) -> None:
        body = json.dumps({"duration_s": 1e9})
        await self._send(POST.format("machines/fan/snooze", self._port, self._cookie, len(body), body))

    async def _talk_nonsense(self, _: int) -> None:
        await self._send("GET \0 / SIP/9\r\n" * 50)

    async def _log_in(self, turn: int) -> None:
        body = json.dumps({"password": f"wrong {turn}"})
        await self._send(POST.format("login", self._port, "", len(body), body))

    async def _hang_up(self, _: int) -> None:
        await self._send(GET.format("machines", self._port, self._cookie), read=0)

    async def _send(self, text: str, *, read: int = 1_000, hold_s: float = 0.0) -> None:
        """Send a request; read the answer to its end, unless `read` is 0."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            self.answers["none"] += 1
            await asyncio.sleep(0.05)
            return
        try:
            writer.write(text.encode())
            if read:
                first = await asyncio.wait_for(reader.read(read), 5)
                self.answers[first[9:12].decode("ascii", "replace")] += 1
                while await asyncio.wait_for(reader.read(65_536), 5):
                    pass
            await asyncio.sleep(hold_s)
        except (OSError, asyncio.TimeoutError):
            self.answers["late"] += 1
        finally:
            writer.transport.abort()


if __name__ == "__main__":
    flood = Flood(int(sys.argv[1]), sys.argv[2], time.monotonic() + float(sys.argv[3]))
    asyncio.run(flood.run())
    print(json.dumps(flood.answers))
