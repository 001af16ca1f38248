"""A headless Chromium of Debian's, a node with a fault, and a place for screenshots."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.broker import Broker, running_broker
from tests.conftest import ROOT, need
from tests.web.browser.page_rig import Link, Node
from tests.web.page_process import need_page

OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --disable-dev-shm-usage --hide-scrollbars --autoplay-policy=no-user-gesture-required "
    "--js-flags=--expose-gc --enable-precise-memory-info"
)
AXE = ROOT / ".venvs/page/node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    browser, tool = shutil.which("chromium"), shutil.which("chromedriver")
    need(browser is not None and tool is not None, "chromium and chromedriver")
    need_page()
    assert browser is not None
    options = ChromeOptions()
    options.binary_location = browser
    for option in (*OPTIONS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(tool))
    driver.set_page_load_timeout(60)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Node]:
    node = Node(tmp_path_factory.mktemp("node"), broker.port)
    try:
        yield node.start()
    finally:
        node.stop()


@pytest.fixture(scope="module")
def link(node: Node) -> Iterator[Link]:
    link = Link(node.port)
    try:
        yield link
    finally:
        link.close()


@pytest.fixture(scope="session")
def axe() -> str:
    need(AXE.exists(), "axe-core (scripts/make-page)")
    return AXE.read_text()


@pytest.fixture
def keep_screenshot(driver: Chrome, tmp_path: Path) -> Callable[[str], Path]:
    """Screenshots are kept in PAGE_ARTEFACTS, if that is set."""
    folder = Path(os.environ.get("PAGE_ARTEFACTS", tmp_path))

    def keep(name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.png"
        path.write_bytes(driver.get_screenshot_as_png())
        return path

    return keep
