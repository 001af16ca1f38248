"""Live sound ends with the session of its listener."""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from monitor.web.access.gate import Visitor
from monitor.web.feed import Feed
from monitor.web.service import Service
from monitor.web.sound import live
from monitor.web.sound.live import Live, LiveResponse


class EndlessSound(Live):
    async def start(self, selector: str, channel: int | None) -> Process:
        return await asyncio.create_subprocess_exec("cat", "/dev/zero", stdout=PIPE, limit=4_096)


def test_live_sound_ends_with_the_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(live, "CHECK_S", 0.05)
    who, sent = Visitor("192.0.2.1", "example.org", True, "viewer", "token"), 0

    async def receive() -> MutableMapping[str, Any]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))
        await asyncio.sleep(0.001)
        if sent > 100_000:
            who.still_allowed = lambda: False

    async def listen() -> Feed:
        feed = Feed(Service(tmp_path / "control.sock"))
        response = LiveResponse(EndlessSound(feed, tmp_path), machine="fan", who=who, info={"microphone": "default"})
        await asyncio.wait_for(response({"type": "http", "method": "GET"}, receive, send), 10)
        return feed

    assert asyncio.run(listen()).listener is None
    assert sent > 100_000
