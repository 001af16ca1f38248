"""Every view: accessible in light and dark, steady, within its size, and as a screenshot at three sizes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.waiting import wait_until
from tests.web.browser.looking import button, errors, resize, shown, wait_for
from tests.web.browser.page_rig import Node

SIZES = {"phone": (360, 740), "laptop": (1280, 800), "wall": (1920, 1080)}
AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then((found) => done(found.violations.map(
  (one) => [one.impact, one.id, one.help, one.nodes.map((node) => node.html.slice(0, 200))])));
"""
SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => list.getEntries().forEach((one) => { window.shifts += one.hadRecentInput ? 0 : one.value; }))
  .observe({type: "layout-shift", buffered: true});
"""


@pytest.fixture(scope="module")
def alarmed(node: Node) -> Node:
    """A node with an open alarm that has a picture."""
    wait_until(lambda: node.get("api/machines/fan")["event"], within_s=120, what="the alarm")
    return node


@pytest.fixture(scope="module")
def views(alarmed: Node) -> dict[str, tuple[str, str]]:
    """Views by name: address and a text that is shown when they are complete."""
    event = alarmed.get("api/machines/fan")["event"]["id"]
    return {
        "overview": ("", "Acknowledge"),
        "machine": ("m/fan", "Sound now"),
        "event": (f"m/fan/e/{event}", "What is different"),
        "node": ("node", "All settings"),
        "learn": ("m/fan/learn", "Place the microphone"),
        "unknown": ("m/other", "No machine other"),
    }


@pytest.fixture(autouse=True)
def usual_screen(driver: Chrome) -> Iterator[None]:
    resize(driver, 1280, 800)
    yield
    resize(driver, 1280, 800)


def visit(driver: Chrome, node: Node, view: tuple[str, str], query: str = "") -> None:
    errors(driver)  # those of earlier tests
    driver.get(f"http://127.0.0.1:{node.port}/{view[0]}{query}")
    wait_for(driver, view[1], "live")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["overview", "machine", "event", "node", "learn", "unknown"])
def test_axe_finds_nothing_serious(
    driver: Chrome, alarmed: Node, views: dict[str, tuple[str, str]], axe: str, name: str, scheme: str
) -> None:
    resize(driver, 1280, 800, scheme=scheme)
    visit(driver, alarmed, views[name])
    for one in driver.find_elements(By.TAG_NAME, "summary"):
        one.click()
    assert errors(driver) == []
    driver.execute_script(axe)
    found: list[Any] = driver.execute_async_script(AXE)
    assert [one for one in found if one[0] in ("serious", "critical")] == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["overview", "machine", "event", "node", "learn"])
def test_no_view_is_wider_than_the_screen(
    driver: Chrome,
    alarmed: Node,
    views: dict[str, tuple[str, str]],
    keep_screenshot: Callable[[str], Path],
    name: str,
    size: str,
) -> None:
    width, height = SIZES[size]
    resize(driver, width, height, scheme="dark" if size == "wall" else "light")
    visit(driver, alarmed, views[name])
    keep_screenshot(f"{name}-{size}")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    small = "return [...document.querySelectorAll('main *, header *')].filter((e) => e.childNodes.length && e.offsetParent && "
    small += "[...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && "
    small += "![13, 15, 18, 24, 36].includes(parseFloat(getComputedStyle(e).fontSize))).map((e) => e.outerHTML.slice(0, 100))"
    assert driver.execute_script(small) == []


@pytest.mark.parametrize("name", ["overview", "machine", "event"])
def test_nothing_jumps(driver: Chrome, alarmed: Node, views: dict[str, tuple[str, str]], name: str) -> None:
    visit(driver, alarmed, views[name])
    driver.execute_script(SHIFTS)
    before = str(driver.execute_script("return document.querySelector('.spectrum .present')?.getAttribute('d')"))
    if name == "machine":
        path = "return document.querySelector('.spectrum .present')?.getAttribute('d')"
        wait_until(lambda: str(driver.execute_script(path)) != before, what="the next spectrum")
    assert driver.execute_script("return window.shifts") < 0.1


def test_kiosk_hides_the_controls_and_keeps_doing_so(driver: Chrome, alarmed: Node, views: dict[str, tuple[str, str]]) -> None:
    driver.get(f"http://127.0.0.1:{alarmed.port}/?kiosk")
    wait_for(driver, "1 alarm, 1 normal")
    assert not [one for one in driver.find_elements(By.TAG_NAME, "button") if one.is_displayed()]
    driver.find_element(By.LINK_TEXT, "Pump").click()
    wait_for(driver, "Sound now")
    assert driver.current_url.endswith("/m/pump?kiosk")
    assert not [one for one in driver.find_elements(By.TAG_NAME, "button") if one.is_displayed()]


def test_everything_is_reached_by_keyboard(driver: Chrome, alarmed: Node, views: dict[str, tuple[str, str]]) -> None:
    visit(driver, alarmed, views["overview"])
    seen: list[str] = []
    for _ in range(14):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(driver.switch_to.active_element.text or str(driver.switch_to.active_element.get_attribute("aria-label")))
    assert seen[0] == "Skip to the content"
    assert {"Node", alarmed.name, "Acknowledge", "Details", "Listen", "Pump"} <= set(seen)
    outline = driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid" or driver.switch_to.active_element.tag_name == "body"


def test_back_returns_to_the_view_before(driver: Chrome, alarmed: Node, views: dict[str, tuple[str, str]]) -> None:
    visit(driver, alarmed, views["overview"])
    button(driver, "Details").click()
    wait_for(driver, "What is different")
    assert driver.title == f"{alarmed.name} · Stethos"
    driver.back()
    wait_for(driver, "1 alarm, 1 normal")


def test_reduced_motion_stops_the_waterfall(driver: Chrome, alarmed: Node, views: dict[str, tuple[str, str]]) -> None:
    features = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    visit(driver, alarmed, views["machine"])
    path = "return document.querySelector('.spectrum .present')?.getAttribute('d')"
    wait_until(lambda: driver.execute_script(path), what="the first picture")
    count = "window.n = 0; new MutationObserver(() => window.n++).observe(document.querySelector('.spectrum'), "
    count += "{subtree: true, attributes: true, attributeFilter: ['d']})"
    driver.execute_script(count)
    first = driver.execute_script(path)
    waited_s = wait_until(lambda: driver.execute_script(path) != first, what="the next picture")
    assert waited_s > 5


def test_a_page_that_is_not_complete_says_what_to_do(driver: Chrome, alarmed: Node) -> None:
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": ["*/static/preact.js"]})
    try:
        driver.get(f"http://127.0.0.1:{alarmed.port}/")
        wait_for(driver, "The page did not arrive completely. Reload it")
    finally:
        driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})


def test_what_is_out_of_date_does_not_look_as_if_all_were_well(driver: Chrome, alarmed: Node) -> None:
    driver.get(f"http://127.0.0.1:{alarmed.port}/")
    wait_for(driver, "Pump", "live")
    colours = "return getComputedStyle(document.querySelector('main')).filter"
    assert driver.execute_script(colours) == "none"
    alarmed.stop_service()
    wait_for(driver, "The service does not run", "What you see is out of date", "out of date")
    assert driver.execute_script(colours) == "grayscale(1)"
    alarmed.start_service()
    wait_until(lambda: driver.execute_script(colours) == "none", within_s=60, what="the present state")


def test_a_password_is_asked_for(driver: Chrome, alarmed: Node, axe: str, keep_screenshot: Callable[[str], Path]) -> None:
    """Last, because it closes the page to the other tests."""
    alarmed.set_password("correct horse battery")
    alarmed.stop_page()
    alarmed.start_page()
    driver.get(f"http://127.0.0.1:{alarmed.port}/")
    wait_for(driver, "Password")
    keep_screenshot("login")
    driver.execute_script(axe)
    assert [one for one in driver.execute_async_script(AXE) if one[0] in ("serious", "critical")] == []
    driver.find_element(By.ID, "password").send_keys("wrong" + Keys.ENTER)
    wait_until(lambda: driver.find_element(By.ID, "login-problem").text != "", what="the refusal")
    driver.find_element(By.ID, "password").clear()
    driver.find_element(By.ID, "password").send_keys("correct horse battery" + Keys.ENTER)
    wait_for(driver, "Pump", "Sign out")
    button(driver, "Sign out").click()
    wait_for(driver, "Password")
    assert "Pump" not in shown(driver)
