"""Mutants of state files, commands from the network and requests to the control socket. See tests/fuzz.py."""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from monitor.bundle import Bundle, load_bundle
from monitor.clips.service import ClipService
from monitor.config import Config, HistoryConfig
from monitor.daemon.alarms import Alarms
from monitor.daemon.assembly import make_slow_path
from monitor.daemon.bundles.adaptations import FOLDER, IN_USE, in_use
from monitor.daemon.control.shared_microphone import microphone_status, share_sound
from monitor.daemon.control.socket import NAME, ControlServer, Reply
from monitor.daemon.state_file import AlarmState, SavedSlowPath, SavedSlowPaths, ServiceState, StateFile
from monitor.daemon.state_publisher import StatePublisher
from monitor.daemon.watch.requests import Requests
from monitor.daemon.watch.settings_check import SettingsCheck
from monitor.daemon.watch.watchers import Watchers
from monitor.events.event import Anchor, Event
from monitor.events.pipeline import Result
from monitor.events.slow_path import N_BLOCKS, SlowState
from monitor.history.history import History
from monitor.scoring.scorer import TickScore
from tests.daemon.control.test_commands import Node
from tests.events.test_pipeline import START

VALUES: list[Any] = [
    *(float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 1e308, 5e-324, -1, 0, 2**70, 253_402_300_800, 1e30, "9" * 400),
    *(None, True, "", "x", "\ud800", "\0", "#", "../..", [], {}, [[]], [1e300] * 48, [float("nan")] * 20, [1.0] * 2_000),
]


class Outlet:
    """A receiver of valid JSON."""

    def publish_retained(self, topic: str, payload: str) -> None:
        if topic.endswith("state"):
            json.loads(payload, parse_constant=_fail)

    def publish(self, event: Event) -> None: ...


def kept(folder: Path) -> None:
    """Use `kept.json` as the daemon does."""
    file = StateFile(folder / "file", ServiceState(), what="everything")
    alarms = Alarms(file.loaded.alarms)
    alarms.apply_config(Config.model_validate({"machines": {"fan": {"bundle": "x"}, "pump": {"bundle": "y"}}}))
    timeline = Anchor(utc=START, sample_rate_hz=1, synced=True)
    for name in ("fan", "pump"):
        publisher = StatePublisher(
            Outlet(), machine=name, threshold=1.0, timeline=timeline, alarm=alarms[name], clock=alarms.clock
        )
        publisher.publish_state("starting", None, START)  # before the first tick
        for stop in (1, 20):
            publisher.push(Result(TickScore(stop, stop, None, None, 2.0, 10), 2.0, "anomaly", None, 0, None, "alarm"))
    state = ServiceState(alarms=alarms.state(), topics=file.loaded.topics)
    assert ServiceState.model_validate_json(state.model_dump_json()) == state


def slow(folder: Path) -> None:
    """Use `slow_paths.json` as the daemon does."""
    file = StateFile(folder / "file", SavedSlowPaths(), what="everything")
    for saved in file.loaded.machines.values():
        path = make_slow_path(bundle(), saved.state(bundle().id))
        level_db = np.zeros(bundle().manifest.front_end.n_bands)
        for minute in range(16):
            for _ in range(60):
                path.push(1.0, start=minute, is_normal=True, level_db=level_db.copy)
        for number in (path.ratio, path.median, path.missing_h):
            assert number is None or np.isfinite(number)
        state = SavedSlowPaths(machines={"fan": SavedSlowPath.of(bundle().id, path.state())})
        assert SavedSlowPaths.model_validate_json(state.model_dump_json()) == state


def adapted(folder: Path) -> None:
    """Use `in-use.json` as the daemon does."""
    (folder / FOLDER / "fan").mkdir(parents=True, exist_ok=True)
    (folder / "file").replace(folder / FOLDER / "fan" / IN_USE)
    assert in_use(folder, "fan", bundle()).id == bundle().id


def valid() -> dict[str, Any]:
    """A valid file of each kind."""
    n_bands = bundle().manifest.front_end.n_bands
    alarm = AlarmState(acknowledged=True, snoozed_until=1.9e9, flooding=True, starts=(1.8e9, 1.8e9 + 5), disabled=True)
    learned = SlowState((1.0, 1.5) * (N_BLOCKS // 2), (-40.0,) * n_bands, (50.0,) * n_bands, (1.0,) * 15)
    paths = SavedSlowPaths(machines={"fan": SavedSlowPath.of(bundle().id, learned)})
    entry = {"ts": "2026-11-21T10:00:00.000Z", "did": "learn", "said": "learned"}
    return {
        "kept": ServiceState(alarms={"fan": alarm, "pump": AlarmState()}, topics=frozenset({"stethos/a"})).model_dump(
            mode="json"
        ),
        "slow": paths.model_dump(mode="json"),
        "adapted": {
            "configured": bundle().id,
            "learn": "learn-20261121T100000000000",
            "extended": ["learn-20261120T100000000000"],
            "calibrate": None,
            "log": [entry],
        },
    }


def mutated(content: Any, chance: random.Random) -> Any:
    """The content with one value replaced, removed or repeated."""
    if chance.random() < 0.15 or not isinstance(content, dict | list) or not content:
        return chance.choice(VALUES)
    copy: Any = dict(content) if isinstance(content, dict) else list(content)
    key = chance.choice([*copy]) if isinstance(copy, dict) else chance.randrange(len(copy))
    match chance.randrange(10):
        case 0:
            del copy[key]
        case 1 if isinstance(copy, list):
            copy *= chance.choice((2, 50))
        case 2 if isinstance(copy, dict):
            copy[chance.choice(("x", "nan", "\ud800", "disabled"))] = copy[key]
        case _:
            copy[key] = mutated(copy[key], chance)
    return copy


def damaged(text: bytes, chance: random.Random) -> bytes:
    """The text with one byte changed, or a part cut out or repeated."""
    a, b = sorted((chance.randrange(len(text)), chance.randrange(len(text))))
    return chance.choice((text[:a] + text[b:], text[:b] + text[a:], text[:a] + bytes([chance.randrange(256)]) + text[a + 1 :]))


@cache
def bundle() -> Bundle:
    return load_bundle(Path(__file__).parents[2] / "models" / "demo-fan")


def _fail(constant: str) -> None:
    raise AssertionError(constant)


def _text(content: Any, chance: random.Random) -> bytes:
    """A mutant of a JSON value; of every fourth, the text is damaged, too."""
    for _ in range(chance.choice((1, 1, 1, 3))):
        content = mutated(content, chance)
    text = json.dumps(content).encode()
    return damaged(text, chance) if chance.random() < 0.25 else text


def state_files(n: int, seed: int) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """`n` mutants: name, and kind of file and content."""
    chance, files = random.Random(seed), valid()
    for number in range(n):
        kind = list(files)[number % len(files)]
        yield kind, (kind, _text(files[kind], chance))


def read_state(mutant: tuple[str, bytes], folder: Path) -> str | None:
    """Use a state file as the daemon does: the warning in the log that it cannot be read, or None."""
    kind, content = mutant
    (folder / "file").write_bytes(content)
    uses: dict[str, Callable[[Path], None]] = {"kept": kept, "slow": slow, "adapted": adapted}
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append  # type: ignore[method-assign,assignment]
    logging.getLogger().addHandler(handler)
    try:
        uses[kind](folder)
    finally:
        logging.getLogger().removeHandler(handler)
    assert not any(record.exc_info for record in records)
    return records[0].getMessage() if records else None


def commands(n: int, seed: int) -> Iterator[tuple[str, tuple[str, bytes]]]:
    """`n` mutants: name, and command and payload."""
    chance = random.Random(seed)
    event = "0" * 8 + "-0000" * 3 + "-" + "0" * 12
    payloads = {
        "ack": {"id": event, "request": "shift 2"},
        "snooze": {"duration_s": 60, "request": "x"},
        "enable": {"request": "x"},
        "disable": {"request": "x"},
        "clip": {"id": event},
        "calibrate": {"minutes": 5},
        "learn": {"minutes": 30, "extend": True},
    }
    for number in range(n):
        name = list(payloads)[number % len(payloads)]
        yield name, (name, _text(payloads[name], chance))


def read_command(mutant: tuple[str, bytes], folder: Path) -> str | None:
    """Execute a command on a node with an alarm: the reason in the response, or None."""
    node = Node()
    node.begin()
    answer = node.say(*mutant)
    assert node.commands.n_failures == 0
    reason = answer["reason"]
    assert answer["accepted"] == (reason is None)
    assert reason is None or isinstance(reason, str)
    return reason


def requests(n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`n` mutants of requests to the control socket, with or without the end of the line."""
    chance = random.Random(seed)
    valid_requests: list[dict[str, Any]] = [
        {"do": "status"},
        {"do": "microphones"},
        {"do": "reload"},
        {"do": "stream", "microphone": "usb:1", "purpose": "record"},
        {"do": "watch", "frames": ["fan"]},
        {"do": "history", "machine": "fan", "from": "2026-11-21T10:00:00Z", "to": "2026-11-22T10:00:00Z", "step_s": 600},
        {"do": "events", "machine": "fan", "before": "2026-11-21T10:00:00.000Z", "limit": 5},
        {"do": "event", "id": "4273b15e-c770-5a8b-9bca-195df3daa8a1"},
        {"do": "clip", "id": "4273b15e-c770-5a8b-9bca-195df3daa8a1"},
        {"do": "picture", "id": "4273b15e-c770-5a8b-9bca-195df3daa8a1"},
        {"do": "command", "machine": "fan", "command": "ack", "payload": {"request": "x"}, "by": "web:admin"},
    ]
    for number in range(n):
        request = valid_requests[number % len(valid_requests)]
        text = chance.choice((_text, lambda content, _: json.dumps(content).encode()))(request, chance)
        text = chance.choice((text, text, damaged(text, chance), text * chance.choice((2, 2_000)), chance.randbytes(50)))
        yield str(request["do"]), text + chance.choice((b"\n", b"\n", b"", b"\r\n", b"\n" + text))


def read_request(content: bytes, folder: Path) -> str | None:
    """Send bytes to a control socket and close that side: the error in the reply, or None."""
    return asyncio.run(_ask(content, folder / NAME))


async def _ask(content: bytes, path: Path) -> str | None:
    node, clips = Node(), ClipService(None, run=lambda job: job(), present=None)
    history = History(path.parent, HistoryConfig(enabled=False), clock_synced=True)
    requests = Requests(
        Watchers("pi", lambda: {"node": "pi"}),
        node.commands,
        clips,
        history,
        SettingsCheck(None, {}),
        complete=lambda event: event,
        config=Config,
        snapshot=lambda _: None,
    )
    server = ControlServer(
        path,
        {
            "status": lambda _: Reply({}),
            "microphones": lambda _: microphone_status([]),
            "reload": lambda _: Reply({}),
            "stream": lambda request: share_sound([], request),
            **requests.handlers(),
        },
    )

    async def process_commands() -> None:
        while True:
            node.commands.process_pending()
            await asyncio.sleep(0.001)

    history.start()
    await server.start()
    processing = asyncio.create_task(process_commands())
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        writer.write(content)
        writer.write_eof()
        reply = json.loads(await asyncio.wait_for(reader.readline(), 5.0))
        writer.close()
        assert server.is_alive
        assert (server.n_failed, server.advanced()) == (0, 1)
    finally:
        processing.cancel()
        await server.stop()
        history.close(5.0)
    assert isinstance(reply, dict)
    return reply.get("error")
