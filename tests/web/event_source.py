"""A client of `api/stream` that keeps every event, as a browser's EventSource receives them."""

import http.client
import json
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.waiting import wait_until
from tests.web.page_process import Client


@dataclass(frozen=True)
class Event:
    """One server-sent event."""

    id: str | None
    kind: str
    data: Any


class EventSource:
    """Reads on a thread until it is closed or the page ends the stream."""

    def __init__(self, client: Client, query: str = "", *, last_id: str | None = None) -> None:
        self.events: list[Event] = []
        self.n_comments = 0
        self.ended = False
        self.last_id = last_id
        self._connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        headers = {"Host": client.host or client.address} | ({"Cookie": client.cookie} if client.cookie else {})
        headers |= {"Last-Event-ID": last_id} if last_id else {}
        self._connection.request("GET", f"{client.path}/api/stream{query}", headers=headers)
        self.response = self._connection.getresponse()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def of(self, kind: str, **values: object) -> list[Event]:
        """The events of a kind whose data has these values."""
        found = [event for event in [*self.events] if event.kind == kind]
        return [event for event in found if values.items() <= _inner(event.data).items()]

    def until(self, kind: str, *, within_s: float = 60.0, **values: object) -> Event:
        """Wait for such an event; the last of them."""
        wait_until(lambda: self.of(kind, **values), within_s, what=f"{kind} {values}; the last: {self.of(kind)[-1:]}")
        return self.of(kind, **values)[-1]

    def close(self) -> None:
        """Go away."""
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._thread.join(10)
        self._connection.close()

    def _read(self) -> None:
        event_id, kind, data = None, "message", ""
        try:
            while line := self.response.readline().decode():
                name, _, value = line.rstrip("\n").partition(":")
                value = value.removeprefix(" ")
                if name == "id":
                    event_id = self.last_id = value
                elif name == "event":
                    kind = value
                elif name == "data":
                    data += value
                elif line.startswith(":"):
                    self.n_comments += 1
                elif line == "\n":
                    if data:
                        self.events.append(Event(event_id, kind, json.loads(data)))
                    event_id, kind, data = None, "message", ""
        except (OSError, http.client.HTTPException, ValueError):
            pass
        self.ended = True

    def __enter__(self) -> "EventSource":
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()


def _inner(data: Any) -> dict[str, Any]:
    """The message in a line of `watch`, or the data itself."""
    inner = data.get("data", data)
    return inner if isinstance(inner, dict) else {}
