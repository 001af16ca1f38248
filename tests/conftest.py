"""What tests share. With CI=true nothing that a proof needs may be missing; elsewhere it is skipped with its reason."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent.parent
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the commands do, before NumPy is imported
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell has started the tests in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
settings.load_profile("any machine")


WAITS = (
    *("audio", "mqtt", "clips", "daemon", "demo", "web", "cli", "config", "contract", "notify"),
    *(
        "system/live/test_live",
        "system/live/test_evidence",
        "system/test_unit",
        "system/test_web_unit",
        "packages/test_debian",
        "packages/test_first",
    ),
)

LONGEST = (  # files that take a minute or more, the longest first, those that wait before those that compute
    "web/browser/test_views.py",
    "cli/adapting/test_adaptation_live.py",
    "system/live/test_live.py",
    "cli/adapting/test_adaptation.py",
    "web/live/test_page_live.py",
    "system/test_unit.py",
    "cli/test_setup.py",
    "cli/adapting/test_extend.py",
    "daemon/live/test_learning_live.py",
    "notify/test_live.py",
    "packages/test_debian_package.py",
    "daemon/live/test_watch_live.py",
    "daemon/live/test_commands_live.py",
    "web/test_description.py",
    "web/browser/test_fault.py",
    "web/live/test_disturbance.py",
    "system/live/test_live_machines.py",
    "cli/test_root.py",
    "system/test_on_arm64.py",
    "update/test_attacks.py",
    "overview/test_browser.py",
    "overview/test_live.py",
    "train/fleet/test_cluster.py",
    "train/fleet/test_command.py",
    "system/test_promises.py",
    "train/recipes/test_recipes.py",
    "train/fitting/test_rates.py",
    "realdata/test_toy_cars.py",
    "train/calibration/test_states.py",
    "train/calibration/test_cross_fitted.py",
    "train/fitting/test_fit.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that wait most of their time, for sound as it plays, brokers or systemd: they run side by side.

    The files that take longest come first, so that no worker has one of them left when the others have ended.
    """
    places = {item: item.path.relative_to(ROOT / "tests").as_posix() for item in items}
    for item, place in places.items():
        if place.startswith(WAITS):
            item.add_marker("waits")
    items.sort(key=lambda item: LONGEST.index(places[item]) if places[item] in LONGEST else len(LONGEST))


def need(condition: bool, what: str) -> None:
    """Skip the test, or fail it under CI, when what it needs is not there."""
    if not condition:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have {what}")
        pytest.skip(f"needs {what}")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def demo_bundle() -> Path:
    return ROOT / "models" / "demo-fan"


@pytest.fixture
def base_bundle(demo_bundle: Path, tmp_path: Path) -> Path:
    """The demo's network as a base bundle, which judges nothing."""
    folder = tmp_path / "base"
    shutil.copytree(demo_bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "base": True}))
    return folder


@pytest.fixture
def bundle_without_level(demo_bundle: Path, tmp_path: Path) -> Path:
    """The demo's, as if it had not learned below which level the fan is off."""
    folder = tmp_path / "without-level"
    shutil.copytree(demo_bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["calibration"]["idle_below_dbfs"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def bundle_of_two_levels(demo_bundle: Path, tmp_path: Path) -> Path:
    """The demo's, with alarm thresholds: its fault is a warning at first, at 3.2 x, and an alarm at 6 x the threshold."""
    folder = tmp_path / "two-levels"
    shutil.copytree(demo_bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    calibration = manifest["calibration"]
    calibration["alarm_threshold"] = 6.0 * calibration["threshold"]
    calibration["file_alarm_threshold"] = 6.0 * calibration["file_threshold"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="session")
def demo_fault() -> Path:
    return ROOT / "demo" / "fan-bearing.flac"


@pytest.fixture(scope="session")
def demo_normal() -> Path:
    return ROOT / "demo" / "fan-normal.flac"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real recordings beside the project (never part of it)."""
    folder = ROOT.parent / "shared" / "data"
    need(folder.is_dir(), "real recordings in ../shared/data")
    return folder


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Frames that tests compute are not kept in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured and recorded by `record_property("figures", text)`, whichever process they ran in."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties if report.when == "call" else ():
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid}: {text}")
