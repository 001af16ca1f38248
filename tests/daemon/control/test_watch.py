"""The stream `watch` without a service: slow clients, snapshots, and levels as bytes."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
import pytest

from monitor.config import Config
from monitor.daemon.control.socket import Reply
from monitor.daemon.watch import backlog as backlog_module
from monitor.daemon.watch.backlog import MAX_BYTES, MAX_FRAME_BYTES, Backlog, line_of
from monitor.daemon.watch.machine_watch import encode_levels
from monitor.daemon.watch.settings_check import public_settings
from monitor.daemon.watch.watchers import Watchers
from tests.mqtt.anomalies import anomaly

FRAMES, STATE = line_of("frame", "x" * 1_000, machine="fan"), line_of("state", "y" * 100, machine="fan")


async def drained(client: Backlog) -> list[dict[str, Any]]:
    """Everything that is left, after it was closed."""
    client.close()
    received = b""
    while (part := await client.take()) is not None:
        received += part
    return [json.loads(line) for line in received.splitlines()]


def test_a_slow_client_loses_frames_and_is_told_how_many_but_no_state() -> None:
    async def run() -> None:
        client = Backlog(None)
        for _ in range(1_000):
            client.put_frame(FRAMES)
            client.put(STATE)
        assert await client.take() is not None
        while client.n_bytes > MAX_FRAME_BYTES:
            assert await client.take() is not None
        client.put_frame(FRAMES)
        lines = await drained(client)
        assert [line["kind"] for line in lines[-2:]] == ["lost", "frame"]
        n_fit = MAX_FRAME_BYTES // (len(FRAMES) + len(STATE)) + 1
        assert lines[-2]["data"]["frames"] == pytest.approx(1_000 - n_fit, abs=2)
        assert not client.is_over

    asyncio.run(run())


def test_a_client_whose_backlog_is_full_is_disconnected_and_costs_no_memory() -> None:
    async def run() -> None:
        client = Backlog(frozenset())
        assert not client.wants_frames("fan")
        for _ in range(MAX_BYTES // len(STATE) + 10):
            client.put(STATE)
        assert client.is_over
        assert client.is_empty
        assert await client.take() is None

    asyncio.run(run())


def test_what_was_put_before_the_end_is_still_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "TAKE_BYTES", 300)

    async def run() -> None:
        client = Backlog(None)
        waiting = asyncio.create_task(client.take())
        await asyncio.sleep(0)
        client.put(STATE)
        assert await waiting == STATE
        for _ in range(10):
            client.put(STATE)
        assert len(await drained(client)) == 10
        client.put(STATE)  # too late
        assert await client.take() is None

    asyncio.run(run())


def test_a_snapshot_has_the_open_events_and_no_machine_that_is_gone() -> None:
    async def run() -> None:
        watchers = Watchers("pi", lambda: {"node": "pi"})
        start, *_, end = [{**event.to_dict(), "started_at": "", "acknowledged_at": None} for event in anomaly(1)]
        other = {**anomaly(2, machine="pump")[0].to_dict(), "started_at": "", "acknowledged_at": None}
        watchers.apply_config({"fan": {"name": "Fan"}, "pump": {"name": None}})
        for event in (start, other):
            watchers.publish_event(event)
        watchers.publish_learning("pump", {"phase": "recording"})
        lines = await snapshot(watchers.watch({}))
        assert [(line["kind"], line.get("machine")) for line in lines] == [
            *(("node", None), ("machine", "fan"), ("machine", "pump")),
            *(("event", "fan"), ("event", "pump"), ("learning", "pump")),
        ]
        watchers.publish_event(end)
        watchers.apply_config({"fan": {"name": "Fan"}})
        assert [line["kind"] for line in await snapshot(watchers.watch({}))] == ["node", "machine"]
        assert watchers.n_clients == 0

    asyncio.run(run())


async def snapshot(reply: Reply) -> list[dict[str, Any]]:
    stream: AsyncGenerator[bytes, None] | None = reply.stream
    assert stream is not None
    data = await stream.__anext__()
    await stream.aclose()
    return [json.loads(line) for line in data.splitlines()]


def test_levels_are_linear_over_the_range() -> None:
    frames = np.array([[-60.0, -20.0, 20.0], [-99.0, -59.9, 99.0]], np.float32)
    assert list(base64.b64decode(encode_levels([frames], (-60.0, 20.0)))) == [0, 128, 255, 0, 0, 255]
    assert encode_levels([], (-60.0, 20.0)) == ""


def test_the_address_of_a_receiver_is_not_among_the_public_settings() -> None:
    config = Config.model_validate(
        {"notify": {"shift": {"url": "jsons://hooks.example.org/T0/TOKEN"}, "boss": {"url_file": "/x"}}}
    )
    public = public_settings(config)["notify"]
    assert (public["shift"]["url"], public["boss"]["url"]) == ("jsons://<hidden>", None)
