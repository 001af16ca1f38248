"""The monitor: its results, its sinks, and the clip names in events."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from monitor import Monitor, Recording, load_bundle
from monitor.arrays import F32
from monitor.audio.channel_reader import ChannelReader
from monitor.block import Block
from monitor.bundle import Bundle
from monitor.events.event import Event
from monitor.events.pipeline import Result
from monitor.explain.excerpt import Excerpt
from monitor.monitor import Source
from tests.signals import blocks, even_blocks


@dataclass
class Collector:
    """A recorder that keeps what it is given, in order."""

    items: list[Block | Result | Event | None] = field(default_factory=list)

    def push_block(self, block: Block) -> None:
        self.items.append(block)

    def push(self, result: Result) -> None:
        self.items.append(result)

    def close(self, event: Event | None) -> None:
        self.items.append(event)

    def clip_name(self, machine: str, event_id: str) -> str | None:
        return f"{machine}-{event_id}.flac"


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    return load_bundle(root / "models" / "demo-fan")


@pytest.fixture(scope="module")
def fault(root: Path) -> F32:
    """Normal sound, then the fault."""
    samples, _ = soundfile.read(root / "demo" / "fan-bearing.flac", dtype="float32")
    return np.asarray(samples[: 80 * 16_000], np.float32)


def run(monitor: Monitor, parts: Sequence[Block]) -> list[Result]:
    return [result for block in parts for result in monitor.push(block)] + monitor.flush()


def test_a_monitor_needs_a_bundle_and_blocks_alone(bundle: Bundle, fault: F32) -> None:
    monitor = Monitor(bundle)
    results = run(monitor, blocks(fault))
    (start, *_) = [result.event for result in results if result.event is not None]
    assert (start.event_type, start.node, start.machine) == ("start", "local", "demo-fan")
    assert {result.state for result in results} == {"starting", "normal", "anomaly"}
    assert start.clip is None
    end = monitor.close()
    assert end is not None
    assert (end.id, end.event_type, end.end_reason) == (start.id, "end", "shutdown")


def test_a_recording_and_a_channel_of_a_microphone_are_sources(demo_fault: Path) -> None:
    sources: list[Source] = [Recording(demo_fault, sample_rate_hz=16_000), ChannelReader(channel=None, sample_rate_hz=16_000)]
    recorded, live = (list(source.blocks()) for source in sources)
    assert recorded[-1].start + len(recorded[-1].samples) == soundfile.info(str(demo_fault)).frames
    assert live == []  # nothing has been captured


def test_two_monitors_do_not_give_the_same_ids(bundle: Bundle, fault: F32) -> None:
    ids = {event.id for _ in range(2) for result in run(Monitor(bundle), blocks(fault)) if (event := result.event)}
    assert len(ids) == 2


@pytest.mark.parametrize("size", [1_600, 50_000, 1_000_000])
def test_sinks_get_every_result_after_the_block_that_completes_it(size: int, bundle: Bundle, fault: F32) -> None:
    recorder, sink = Collector(), Collector()
    monitor = Monitor(bundle, recorder=recorder, sinks=[sink])
    parts = even_blocks(fault, size)
    results = run(monitor, parts)
    end = monitor.close()
    assert sink.items == [*results, end]
    assert [item for item in recorder.items if not isinstance(item, Block)] == [*results, end]
    assert [item for item in recorder.items if isinstance(item, Block)] == parts
    heard = 0
    for item in recorder.items:
        if isinstance(item, Block):
            heard = item.start + len(item.samples)
        elif isinstance(item, Result):
            assert item.tick.stop <= heard
    assert end is not None
    assert end.clip == f"demo-fan-{end.id}.flac"


class Failing(Collector):
    """Takes blocks, but no result."""

    def push(self, result: Result) -> None:
        raise RuntimeError("can't start new thread")

    def close(self, event: Event | None) -> None:
        raise RuntimeError("can't start new thread")


def test_a_sink_that_fails_costs_the_others_nothing(bundle: Bundle, fault: F32) -> None:
    first, last = Collector(), Collector()
    monitor = Monitor(bundle, recorder=Failing(), sinks=[first, Failing(), last])
    reference = Monitor(bundle)
    expected = [result for block in even_blocks(fault, 1_600) for result in reference.push(block)]
    for block in even_blocks(fault, 1_600):
        with suppress(RuntimeError):
            monitor.push(block)
    with pytest.raises(RuntimeError):
        monitor.close()
    for sink in (first, last):
        *results, end = sink.items
        assert [(item.tick.stop, item.state) for item in results if isinstance(item, Result)] == [
            (one.tick.stop, one.state) for one in expected
        ]
        assert isinstance(end, Event)
        assert any(isinstance(item, Result) and item.event is not None for item in results)


def test_block_sizes_change_no_result(bundle: Bundle, fault: F32) -> None:
    first, *others = (run(Monitor(bundle), even_blocks(fault, size)) for size in (1_000_000, 1_601, 40_000))
    for other in others:
        assert [replace(result, event=None) for result in other] == [replace(result, event=None) for result in first]


def test_the_file_is_described_by_its_most_abnormal_segment(bundle: Bundle, demo_fault: Path) -> None:
    monitor = Monitor(bundle, excerpt=Excerpt())
    run(monitor, list(Recording(demo_fault, sample_rate_hz=monitor.sample_rate_hz).blocks()))
    assert monitor.file_score() is not None
    assert "dB more than usual at" in monitor.describe_file().summary
    assert monitor.scored_s() == pytest.approx(140, abs=1.1)


def test_without_input_the_state_is_unknown_and_sound_may_follow(bundle: Bundle, fault: F32) -> None:
    sink = Collector()
    monitor = Monitor(bundle, sinks=[sink])
    lost = monitor.no_input(16_000, "microphone_lost")
    assert (lost.state, lost.reason) == ("unknown", "microphone_lost")
    assert sink.items == [lost]
    later = [Block(32_000 + part.start, part.samples) for part in blocks(fault[: 30 * 16_000])]
    assert run(monitor, later)[-1].state == "normal"


def test_a_rate_that_is_too_low_is_a_problem(bundle: Bundle) -> None:
    monitor = Monitor(bundle)
    assert monitor.rate_problem is None
    monitor.source_rate_hz = 8_000
    assert monitor.rate_problem is not None
    assert monitor.rate_problem.startswith("recorded at 8000 Hz, but ")
