"""Learning a machine whose microphone never comes: however it ends, there is an answer, and nothing is left behind."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from monitor.config import load_config
from monitor.daemon.bundles.adaptation_job import Adaptation, AdaptationJob
from monitor.learning.stored.unfinished import unfinished_folder
from monitor.mqtt.messages import Learn
from tests.waiting import wait_until


class Node:
    """A state directory with a configuration, and the answers of a job."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.state_dir = folder / "state"
        self.config = folder / "monitor.yaml"
        self.bundle = bundle
        self.configure("fan")
        self.answers: list[tuple[str, str | None]] = []
        self.progress: list[dict[str, Any] | None] = []

    def configure(self, machine: str, microphone: str = "name:none") -> None:
        entry = f"{machine}: {{bundle: {self.bundle}, microphone: '{microphone}'}}"
        folders = [f"state_dir: {self.state_dir}", f"runtime_dir: {self.state_dir.parent / 'run'}"]
        self.config.write_text("\n".join(["node: pi", *folders, "machines:", f"  {entry}"]) + "\n")

    def apply(self, job: AdaptationJob) -> None:
        job.apply_config(load_config(self.config, {}).machines)

    def job(self) -> AdaptationJob:
        def done(machine: str, _: Adaptation, reason: str | None, __: str | None) -> None:
            self.answers.append((machine, reason))

        job = AdaptationJob(self.config, os.environ, done, lambda _, data: self.progress.append(data), state_dir=self.state_dir)
        self.apply(job)
        return job


@pytest.fixture
def node(tmp_path: Path, root: Path) -> Node:
    return Node(tmp_path, root / "models" / "demo-fan")


def run(part: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(part(), 60.0)

    asyncio.run(limited())


async def until(condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, condition)


def test_a_link_in_the_place_of_the_sound_is_an_answer(node: Node, tmp_path: Path) -> None:
    (node.state_dir / "learned").mkdir(parents=True)
    (node.state_dir / "learned" / "fan").symlink_to(tmp_path)

    async def part() -> None:
        node.job().start("fan", Learn())
        await until(lambda: node.answers)

    run(part)
    ((machine, reason),) = node.answers
    assert machine == "fan"
    assert "is a link, which is not followed" in (reason or "")


def test_learning_that_is_stopped_at_once_is_answered_and_not_resumed(node: Node) -> None:
    async def part() -> None:
        job = node.job()
        job.start("fan", Learn())
        job.cancel("fan")
        await until(lambda: node.answers)
        await job.stop()

    run(part)
    assert node.answers == [("fan", "stopped")]
    assert not unfinished_folder(node.state_dir, "fan").exists()


def test_an_interrupt_from_the_terminal_reaches_the_service_only_which_ends_the_learning_to_resume_it(node: Node) -> None:
    async def part() -> None:
        job = node.job()
        job.start("fan", Learn())
        await until(lambda: node.progress)
        assert all(os.getsid(child) != os.getsid(0) for child in children())
        await job.stop()

    run(part)
    assert node.answers == []
    assert (unfinished_folder(node.state_dir, "fan") / "command.json").exists()


async def interrupt(node: Node) -> None:
    """Learn until the service ends."""
    job = node.job()
    job.start("fan", Learn())
    await until(lambda: node.progress)
    await job.stop()
    node.progress.clear()


def test_an_interrupted_learning_is_resumed(node: Node) -> None:
    async def part() -> None:
        await interrupt(node)
        job = node.job()
        job.resume()
        await until(lambda: node.progress)
        await job.stop()

    run(part)


@pytest.mark.parametrize(("machine", "microphone"), [("pump", "name:none"), ("fan", "name:other")])
def test_an_interrupted_learning_of_a_machine_that_is_gone_or_hears_otherwise_is_discarded(
    node: Node, machine: str, microphone: str
) -> None:
    async def part() -> None:
        await interrupt(node)
        node.configure(machine, microphone)
        job = node.job()
        job.resume()
        await until(lambda: not unfinished_folder(node.state_dir, "fan").exists())
        await job.stop()

    run(part)
    assert (node.progress, node.answers) == ([], [])


def test_an_interrupted_learning_of_days_ago_is_discarded(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    async def part() -> None:
        await interrupt(node)
        long_ago = time.time() - 26 * 3600
        for path in unfinished_folder(node.state_dir, "fan").iterdir():
            os.utime(path, (long_ago, long_ago))
        job = node.job()
        job.resume()
        await until(lambda: not unfinished_folder(node.state_dir, "fan").exists())
        await job.stop()

    run(part)
    assert "discarded: its sound is 26 h old; learn the machine again" in caplog.text
    assert node.progress == []


@pytest.mark.parametrize(("machine", "microphone"), [("pump", "name:none"), ("fan", "name:other")])
def test_learning_ends_when_a_reload_removes_the_machine_or_changes_its_microphone(
    node: Node, machine: str, microphone: str
) -> None:
    async def part() -> None:
        job = node.job()
        job.start("fan", Learn())
        await until(lambda: node.progress)
        node.configure(machine, microphone)
        node.apply(job)
        await until(lambda: node.answers)
        await job.stop()

    run(part)
    assert node.answers == [("fan", "stopped: the machine was disabled, or its bundle or microphone was changed")]
    assert not unfinished_folder(node.state_dir, "fan").exists()


def children() -> list[int]:
    """The processes whose parent is this one, of which there must be some."""
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*") if parent(path) == os.getpid()]
    assert found
    return found


def parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
