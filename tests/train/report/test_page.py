"""The report in a browser: one screen for a maintenance engineer, on a desk and on a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.conftest import need
from train.cli.main import main as train

WIDEST = "return Math.max(...[...document.querySelectorAll('body *')].map((one) => one.getBoundingClientRect().right))"


@pytest.fixture(scope="module")
def driver(demo_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser that shows the report of a data set with a fault."""
    browser, tool = shutil.which("chromium"), shutil.which("chromedriver")
    need(browser is not None and tool is not None, "chromium and chromedriver")
    assert browser is not None
    folder = tmp_path_factory.mktemp("page")
    for number, fault in (("3", []), ("2", ["--fault", "bearing"])):
        assert train(["synth", str(folder / "fan"), "--recordings", number, "--seconds", "12", *fault]) == 0
    out = folder / "report"
    assert train(["evaluate", str(demo_bundle), str(folder / "fan"), "--out", str(out), "--resamples", "10"]) == 0
    options = ChromeOptions()
    options.binary_location = browser
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(option)
    driver = Chrome(options=options, service=ChromeService(tool))
    try:
        driver.get((out / "index.html").as_uri())
        yield driver
    finally:
        driver.quit()


def resize(driver: Chrome, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def test_the_first_screen_has_verdict_figures_and_sounds(driver: Chrome) -> None:
    resize(driver, 1280, 800)
    assert driver.execute_script("return document.documentElement.scrollHeight") <= 800
    assert "● Found all 2 anomalous clips" in driver.execute_script("return document.body.innerText")
    for elements, n in (("svg", 3), ("audio", 2)):
        shown = "return [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility()).length"
        assert driver.execute_script(shown, elements) == n
    assert driver.execute_script("return document.querySelector('details').open") is False


@pytest.mark.parametrize("unfolded", [False, True])
def test_a_phone_never_scrolls_sideways(unfolded: bool, driver: Chrome) -> None:
    resize(driver, 360, 740)
    driver.execute_script("document.querySelector('details').open = arguments[0]", unfolded)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 360
    if not unfolded:  # the tables below scroll by themselves
        assert driver.execute_script(WIDEST) <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_follow_the_colours_of_the_page(scheme: str, driver: Chrome) -> None:
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    ink, drawn = driver.execute_script(
        "return [getComputedStyle(document.body).color,"
        " [...document.querySelectorAll('svg path')].map((one) => getComputedStyle(one).stroke)]"
    )
    assert ink == {"light": "rgb(28, 31, 35)", "dark": "rgb(232, 229, 222)"}[scheme]
    assert ink in drawn
