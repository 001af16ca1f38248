"""The documents: every link, file and module that they name exists, and their commands and examples run."""

import io
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor import Monitor, Recording, __version__, load_bundle
from monitor.learning.promise import promise_after
from monitor.scoring.components.component import Component, Observation
from tests.system.test_architecture import GROUND, ROOMS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
COMMENTED = [*(ROOT / "configs").rglob("*.*"), *(ROOT / "systemd").glob("*.service")]
TOPS = "monitor|train|tests|benchmarks|docs|configs|systemd|scripts|demo|packaging"
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(rf"`((?:{TOPS})/[\w./*-]*)(?:[: ][^`]*)?`")
MODULE = re.compile(r"(?:python -m |`)((?:benchmarks|monitor|train)(?:\.(?!txt\b|cpp\b|yaml\b)\w+)+)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="argparse formats its help differently in every version of Python")
def test_what_is_generated_from_the_program_is_current() -> None:
    done = subprocess.run([sys.executable, "scripts/generate", "--check"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(page: str, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall((ROOT / page).read_text()) if found == language]


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


@pytest.mark.parametrize("page", [*PAGES, *COMMENTED], ids=named)
def test_every_file_and_module_that_is_named_exists(page: Path) -> None:
    text = page.read_text()
    for path in PATH.findall(text):
        assert any(ROOT.glob(path.rstrip("/"))), path
    for module in MODULE.findall(text):
        parent, _, name = module.rpartition(".")
        assert _exists(module) or (_exists(parent) and name in _source(parent)), module


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _source(module: str) -> str:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).read_text()


def test_the_site_is_made_without_a_network_and_no_link_in_it_leads_nowhere(tmp_path: Path) -> None:
    isolated = ["unshare", "--map-root-user", "--net"] if os.environ.get("CI") == "true" else []
    command = [
        *isolated,
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "docs",
        str(tmp_path / "site"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    pages = [page.read_text() for page in (tmp_path / "site").glob("*.html")]
    assert len(pages) > 20
    assert not any(re.search(r'(?:src|rel="stylesheet" href)="(?:https?:)?//', page) for page in pages)


def test_decisions_are_numbered_without_a_hole_under_one_form_of_heading() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for number, page in enumerate(pages, 1):
        assert re.match(rf"# {number}\. \w", page.read_text()), page.name


def test_the_rooms_are_those_of_the_architecture_test() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `monitor/(\w+)(?:\.py)?` \| .+ \| (.*?) ?\|$", page, re.MULTILINE)
    assert {room: set(filter(None, below.split(", "))) for room, below in rows} == {
        room: set(below.split()) for room, below in ROOMS.items()
    }
    assert f": {', '.join(f'`{module}`' for module in GROUND)}." in " ".join(page.split())


def test_the_changelog_has_a_dated_section_for_this_version() -> None:
    assert re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def run(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run one of the distribution's commands from its entry point."""
    program, *arguments = command.split()
    ((module, function),) = re.findall(rf'^{program} = "(.+):(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    code = f"import sys; from {module} import {function}; sys.exit({function}())"
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_demo_prints_the_lines_that_are_shown() -> None:
    (arguments,) = re.findall(r"bin/monitor\" (--replay .*?) >", (ROOT / "scripts" / "demo").read_text())
    printed = run(f"monitor {arguments}", ROOT).stderr.splitlines()
    for page, shown in (("README.md", 2), ("docs/replay.md", 7)):
        (text,) = [block for block in blocks(page, "") if block.startswith("00:00")]
        lines = re.sub(r"\n +", " ", text).splitlines()
        assert len(lines) == shown
        assert set(lines) <= set(printed)


def test_what_is_promised_before_learning_is_the_table_that_is_shown() -> None:
    page = (ROOT / "docs" / "calibration.md").read_text()
    rows = re.findall(r"^\| ([\d.]+) (min|h) \| ([\d.]+) x .*?\| ([\d.]+) x \| (\d+) \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for length, unit, warning, alarm, n_false in rows:
        promise = promise_after(float(length) * (60 if unit == "h" else 1), segment_s=10.24)
        assert (promise.warning_from, promise.alarm_from, round(promise.false_per_day)) == (
            float(warning),
            float(alarm),
            int(n_false),
        )


def test_the_commands_of_the_readme_train_and_replay(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("README.md", "") if "train fit" in block]
    venv, *commands = text.splitlines()
    assert venv.startswith("python3 -m venv")
    run("train synth my-fan --recordings 12 --seconds 10", tmp_path)
    shutil.copy(tmp_path / "my-fan" / "normal" / "0000.flac", tmp_path / "new.wav")  # libsndfile goes by the content
    for command in commands:
        done = run(command, tmp_path)
    assert '"verdict": "normal"' in done.stdout


@pytest.fixture(scope="module")
def examples() -> dict[str, Any]:
    """What CONTRIBUTING's examples define."""
    names: dict[str, Any] = {"__name__": "examples"}
    for text in blocks("CONTRIBUTING.md", "python"):
        exec(text, names)
    return names


def test_the_example_of_a_source_yields_the_samples_of_a_recording(examples: dict[str, Any]) -> None:
    recorded = np.concatenate(
        [block.samples for block in Recording(ROOT / "demo" / "fan-normal.flac", sample_rate_hz=16000).blocks()]
    )
    pcm = io.BytesIO((recorded * 32768).astype("<i2").tobytes())
    got = list(examples["RawPcm"](pcm).blocks())
    assert [block.start for block in got] == list(range(0, len(recorded), 4096))
    assert np.array_equal(np.concatenate([block.samples for block in got]), recorded)


def test_the_example_of_a_sink_writes_the_start_and_the_end_of_an_anomaly(examples: dict[str, Any]) -> None:
    written = io.StringIO()
    fan = Monitor(load_bundle(ROOT / "models" / "demo-fan"), sinks=[examples["PlainLog"](written)])
    for block in Recording(ROOT / "demo" / "fan-bearing.flac", sample_rate_hz=fan.sample_rate_hz).blocks():
        fan.push(block)
    fan.close()
    lines = [line.split(" demo-fan ")[1] for line in written.getvalue().splitlines()]
    assert [line.split()[0] for line in lines] == ["start", "end"]
    assert lines[0].startswith("start 13 dB more than usual at 2.9-3.3 kHz")


def test_the_example_of_a_component_scores_knocks_above_steady_noise(examples: dict[str, Any]) -> None:
    spread: Component = examples["ErrorSpread"]()

    def score(*errors: float) -> float | None:
        target = np.sqrt(np.array([*errors, 1e6], np.float32))[:, None].repeat(2, axis=1)  # the last row is not valid
        valid = np.array([*(True for _ in errors), False])
        seen = Observation(target, np.zeros_like(target), valid, np.zeros((1, 2), np.float32))
        return spread.score(spread.measure(seen))

    assert score(4.0, 4.0, 4.0) == pytest.approx(0.0, abs=1e-6)
    assert score(1.0, 1.0, 7.0) == pytest.approx(np.std([1, 1, 7]), rel=1e-6)
    assert score() is None
