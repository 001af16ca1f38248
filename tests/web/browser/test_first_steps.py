"""A machine with a base bundle: the page leads to its first steps, and learns it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.conftest import ROOT
from tests.waiting import wait_until
from tests.web.browser.looking import button, errors, resize, shown, wait_for
from tests.web.browser.page_rig import Node


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Node]:
    """A node whose pump has not learned yet."""
    node = Node(tmp_path, pump_bundle=ROOT / "models" / "base")
    try:
        yield node.start()
    finally:
        node.stop()


def test_first_steps_lead_to_learning_which_can_be_stopped(driver: Chrome, new: Node) -> None:
    resize(driver, 1280, 800)
    errors(driver)
    driver.get(f"http://127.0.0.1:{new.port}/")
    wait_for(driver, "Learning", "Nothing is judged until it has learned its normal sound.", within_s=60)
    button(driver, "First steps").click()
    wait_for(driver, "Good level.", "Sound now", "After 10 min: a warning from", "Nothing is judged until it has learned.")
    assert not [text for text in ("Stop", "are missing") if text in shown(driver)]
    button(driver, "Learn").click()
    wait_for(driver, "of 10 min; 10 minutes of normal sound are missing")
    wait_until(lambda: not button(driver, "Learn").is_enabled(), what="the button to be disabled")
    button(driver, "×").click()  # noqa: RUF001 - the message, which is above everything
    button(driver, "Stop").click()
    wait_for(driver, "learning was stopped")
    wait_until(lambda: button(driver, "Learn").is_enabled(), what="the button to be enabled")
    wait_until(lambda: "learning was stopped" not in shown(driver), what="the message to vanish")
    assert errors(driver) == []


def test_a_new_node_opens_with_the_first_steps_of_its_only_machine(driver: Chrome, tmp_path: Path) -> None:
    node = Node(tmp_path, pump_bundle=ROOT / "models" / "base", has_fan=False)
    try:
        node.start()
        driver.get(f"http://127.0.0.1:{node.port}/")
        wait_for(driver, "Run the machine as usual", "After 10 min: a warning from", within_s=60)
        button(driver, "Machines").click()
        wait_for(driver, "Run the machine as usual")
    finally:
        node.stop()


def test_learning_is_undone_after_a_second_question_if_nothing_else_was_learned(driver: Chrome, new: Node) -> None:
    new.stop_service()
    sound, rate_hz = soundfile.read(ROOT / "demo" / "fan-normal.flac", dtype="int16")
    soundfile.write(new.folder / "normal.flac", np.tile(sound, 17), rate_hz, subtype="PCM_16")
    new.command("learn", "--yes", "--machine", "pump", "--from", str(new.folder / "normal.flac"))
    new.start_service()
    driver.get(f"http://127.0.0.1:{new.port}/m/pump")
    wait_for(driver, "Sound now", within_s=60)
    errors(driver)  # 503 until the service was up
    driver.find_element(By.XPATH, "//summary[text()='Calibrate']").click()
    button(driver, "Undo the last learning").click()
    wait_for(driver, "Undo it anyway", "Then nothing is learned, and Pump is not monitored until it has learned again.")
    button(driver, "Undo it anyway").click()
    wait_for(driver, "Nothing is judged until it has learned its normal sound.", within_s=60)
    assert "Undo" not in shown(driver)
    assert errors(driver) == []
