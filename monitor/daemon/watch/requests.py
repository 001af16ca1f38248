"""The handlers of the requests of the page: `watch`, `history`, `events`, `command` and others (docs/control.md)."""

import asyncio
import json
import math
import re
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, TypeVar

from monitor.clips.clip import EventClip
from monitor.clips.service import ClipService
from monitor.config import Config
from monitor.daemon.control.commands import Commands
from monitor.daemon.control.socket import ControlError, Handler, Reply
from monitor.daemon.watch.settings_check import SettingsCheck, public_settings
from monitor.daemon.watch.watchers import Watchers
from monitor.events.event import rfc3339
from monitor.history.history import History
from monitor.history.steps import STEP_S
from monitor.history.store import HistoryStore
from monitor.json_lines import to_json
from monitor.mqtt.messages import ResponseMessage

CHUNK = 1 << 16
HOUR_S = 3_600.0
MAX_STEP_S = 366 * 86_400
MAX_EVENTS = 500  # in one reply
T = TypeVar("T")
NAME = re.compile(r"[a-z0-9_-]{1,64}")
EVENT_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BY = re.compile(r"[!-~]{1,64}")


class Requests:
    """Answers requests in the event loop. What waits for the disk runs on other threads."""

    def __init__(
        self,
        watchers: Watchers,
        commands: Commands,
        clips: ClipService,
        history: History,
        settings_check: SettingsCheck,
        *,
        complete: Callable[[dict[str, Any]], dict[str, Any]],
        config: Callable[[], Config],
        snapshot: Callable[[str], EventClip | None],
    ) -> None:
        """`complete` adds to an event whether it has a clip and a picture, and `config` returns the settings in use.

        `snapshot` returns the clip of an open event as recorded so far.
        """
        self._watchers = watchers
        self._commands = commands
        self._clips = clips
        self._history = history
        self._settings_check = settings_check
        self._complete = complete
        self._config = config
        self._snapshot = snapshot

    def handlers(self) -> dict[str, Handler]:
        """The handlers by request."""
        return {
            "watch": self._watchers.watch,
            "command": self._command,
            "history": self._points,
            "events": self._events,
            "event": self._event,
            "clip": self._clip,
            "picture": self._picture,
            "settings": self._settings,
        }

    async def _command(self, request: dict[str, Any]) -> Reply:
        machine, name = _matching(request, "machine", NAME), _matching(request, "command", NAME)
        by = _matching(request, "by", BY, default="tool")
        payload = request.get("payload", {})
        if not isinstance(payload, dict):
            raise ControlError("payload must be an object")
        answered: asyncio.Future[ResponseMessage] = asyncio.get_running_loop().create_future()

        def answer(response: ResponseMessage) -> None:
            if not answered.done():  # the client may be gone
                answered.set_result(response)

        self._commands.order(machine, name, json.dumps(payload).encode(), by=by, reply=answer)
        return Reply({"response": (await answered).model_dump(by_alias=True)})

    async def _points(self, request: dict[str, Any]) -> Reply:
        machine = _matching(request, "machine", NAME)
        to, since = _time(request, "to"), _time(request, "from")
        end = time.time() if to is None else to.timestamp()
        begin = max(0.0, end - HOUR_S) if since is None else since.timestamp()
        step_s = request.get("step_s", STEP_S)
        if isinstance(step_s, bool) or not isinstance(step_s, int | float) or not 0 < step_s <= MAX_STEP_S:
            raise ControlError(f"step_s must be in 1..{MAX_STEP_S}, got {json.dumps(step_s)[:80]}")
        if begin >= end:
            raise ControlError("from must be before to")

        def answer(store: HistoryStore) -> str:  # on the thread of the history, as is the JSON of so many points
            width_s, points = store.points(machine, int(begin), math.ceil(end), float(step_s))
            return to_json({"machine": machine, "step_s": width_s, "points": points})

        return Reply({}, text=await self._ask(answer))

    async def _events(self, request: dict[str, Any]) -> Reply:
        machine = None if request.get("machine") is None else _matching(request, "machine", NAME)
        before = _time(request, "before")
        after_id = None if request.get("after_id") is None else _matching(request, "after_id", EVENT_ID)
        limit = request.get("limit", 50)
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_EVENTS:
            raise ControlError(f"limit must be in 1..{MAX_EVENTS}, got {json.dumps(limit)[:80]}")
        until = None if before is None else rfc3339(before)
        events = await self._ask(lambda store: store.events(machine, until, limit, after_id=after_id))
        return Reply({"events": [self._complete(event) for event in events]})

    async def _event(self, request: dict[str, Any]) -> Reply:
        event_id = _matching(request, "id", EVENT_ID)
        event = await self._ask(lambda store: store.event(event_id))
        if event is None:
            raise ControlError(f"there is no event {event_id}")
        return Reply({"event": self._complete(event)})

    async def _ask(self, question: Callable[[HistoryStore], T]) -> T:
        """Have a question answered on the history's thread."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[T] = loop.create_future()

        def settle(result: T | Exception) -> None:
            if answered.done():  # the client is gone
                return
            if isinstance(result, Exception):
                answered.set_exception(result)
            else:
                answered.set_result(result)

        def answer(result: T | Exception) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, result)

        if not self._history.ask(question, answer):
            raise ControlError("too many requests for the history at once; try again")
        return await answered

    async def _clip(self, request: dict[str, Any]) -> Reply:
        event_id = _matching(request, "id", EVENT_ID)
        snapshot = self._snapshot(event_id)
        name, data = await asyncio.to_thread(self._clips.read_clip, event_id, snapshot=snapshot)
        return _file(name, data, media="audio/flac")

    async def _picture(self, request: dict[str, Any]) -> Reply:
        name, data = await asyncio.to_thread(self._clips.read_picture, _matching(request, "id", EVENT_ID))
        return _file(name, data, media="image/png")

    async def _settings(self, _: dict[str, Any]) -> Reply:
        problems = await self._settings_check.problems()
        return Reply({"settings": public_settings(self._config()), "problems": problems})


def _matching(request: dict[str, Any], key: str, pattern: re.Pattern[str], *, default: str | None = None) -> str:
    value = request.get(key, default)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ControlError(f"{key} must match {pattern.pattern}, got {json.dumps(value)[:80]}")
    return value


def _time(request: dict[str, Any], key: str) -> datetime | None:
    """A time after 1970; None if there is none."""
    text = request.get(key)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        at = at.replace(tzinfo=at.tzinfo or timezone.utc).astimezone(timezone.utc)
        if 1970 <= at.year <= 9000:
            return at
    except (ValueError, OverflowError):
        pass
    raise ControlError(f"{key} must be a time such as 2026-11-21T10:00:00Z, got {json.dumps(text)[:80]}")


def _file(name: str, data: bytes, *, media: str) -> Reply:
    async def parts() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(data), CHUNK):
            yield data[start : start + CHUNK]

    return Reply({"type": media, "size": len(data), "name": name}, parts(), is_file=True)
