"""The feed of a service that is played here."""

import asyncio
import json
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from monitor.json_lines import to_json
from monitor.web.feed import Feed
from monitor.web.service import Service

LEARNING = {"command": "learn", "phase": "recording", "done_s": 3.0}


async def until(is_true: Callable[[], bool]) -> None:
    for _ in range(500):
        if is_true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 5 s")


def test_viewers_who_come_and_go_are_few_connections_to_the_service(tmp_path: Path) -> None:
    n_connections = 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        writer.write(b'{"node": "hall"}\n{"kind": "node", "data": {"node": "hall"}}\n')

    async def flood() -> None:
        server = await asyncio.start_unix_server(serve, str(tmp_path / "control.sock"))
        feed = Feed(Service(tmp_path / "control.sock"))
        running = asyncio.create_task(feed.run())
        await until(lambda: feed.running)
        for _ in range(50):
            with feed.viewer("fan", None):
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()

    asyncio.run(flood())
    assert n_connections < 10


def test_whoever_comes_while_a_machine_is_learned_sees_it_until_the_service_is_gone(tmp_path: Path) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_first = not connections
        connections.append(writer)
        lines: list[dict[str, Any]] = [
            {"node": "hall"},
            {"kind": "node", "data": {"node": "hall"}},
            {"kind": "machine", "machine": "fan", "data": {}},
        ]
        lines += [{"kind": "learning", "machine": "fan", "data": LEARNING}] if is_first else []
        writer.write("".join(f"{to_json(line)}\n" for line in lines).encode())

    async def look() -> tuple[str, list[object]]:
        server = await asyncio.start_unix_server(serve, str(tmp_path / "control.sock"))
        feed = Feed(Service(tmp_path / "control.sock"))
        running = asyncio.create_task(feed.run())
        await until(lambda: "fan" in feed.learning)
        with feed.viewer(None, None) as (viewer, texts):
            first = "".join(texts)
            connections[0].close()
            await until(lambda: len(connections) > 1 and feed.running)
            later = [viewer.waiting.get_nowait() for _ in range(viewer.waiting.qsize())]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        for connection in connections:
            connection.close()
        server.close()
        return first, [json.loads(one.text.partition("data: ")[2])["data"] for one in later if one.kind == "learning"]

    first, later = asyncio.run(look())
    assert to_json({"kind": "learning", "machine": "fan", "data": LEARNING}) in first
    assert later == [None]


def test_many_viewers_who_resume_do_not_each_hold_all_that_is_kept(tmp_path: Path) -> None:
    feed = Feed(Service(tmp_path / "control.sock"))
    with feed.viewer(None, None) as (_, texts):
        begin = "".join(texts).rpartition("id: ")[2].strip()
    for _ in range(2_000):
        feed.set_listener({"machine": "fan", "by": "x" * 900, "since": ""})
    with ExitStack() as stack:
        tracemalloc.start()
        viewers = [stack.enter_context(feed.viewer(None, begin)) for _ in range(50)]
        n_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert n_bytes < 5_000_000
        assert all(sum(map(len, texts)) > 1_500_000 for _, texts in viewers[:2])


def test_every_viewer_begins_with_the_last_minute_and_receives_it_once(tmp_path: Path) -> None:
    n_connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        request = json.loads(await reader.readline())
        writer.write(b'{"node": "hall"}\n{"kind": "node", "data": {"node": "hall"}}\n')
        if request["frames"]:
            n_connections += 1
            for part in (f"minute {n_connections}", f"tick {n_connections}"):
                writer.write(to_json({"kind": "frame", "machine": "fan", "data": part}).encode() + b"\n")

    async def watch() -> None:
        server = await asyncio.start_unix_server(serve, str(tmp_path / "control.sock"))
        feed = Feed(Service(tmp_path / "control.sock"))
        running = asyncio.create_task(feed.run())
        await until(lambda: feed.running)
        with feed.viewer("fan", None) as (first, texts):
            assert not frames(texts)
            await until(lambda: first.waiting.qsize() >= 2)
            assert frames(first.waiting.get_nowait().text for _ in range(2)) == ["minute 1", "tick 1"]
            with feed.viewer("fan", None) as (_, texts):
                assert frames(texts) == ["minute 1", "tick 1"]
            with feed.viewer("pump", None):  # a new connection
                await until(lambda: first.waiting.qsize() >= 1)
                assert frames([first.waiting.get_nowait().text]) == ["tick 2"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()

    asyncio.run(watch())


def frames(texts: Iterable[str]) -> list[str]:
    """The data of the frames among server-sent events."""
    return [json.loads(text.split("data: ")[1])["data"] for text in texts if text.startswith("event: frame\n")]
