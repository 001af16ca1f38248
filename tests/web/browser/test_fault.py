"""A fault is played: the page turns, shows it with picture and sound, acknowledges it, and survives a broken connection.

The tests of this file run in order; each goes on where the one before has ended.
"""

import json
import subprocess
import time
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.broker import Broker, say
from tests.waiting import wait_until
from tests.web.browser.looking import button, errors, shown, wait_for
from tests.web.browser.page_rig import Link, Node


def retained_state(broker: Broker) -> dict[str, Any]:
    command = [
        "mosquitto_sub",
        "-h",
        "127.0.0.1",
        "-p",
        str(broker.port),
        "-t",
        "stethos/workshop/fan/state",
        "-C",
        "1",
        "-W",
        "10",
    ]
    state: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return state


def open_event(node: Node) -> dict[str, Any]:
    event: dict[str, Any] = node.get("api/machines/fan")["event"]
    return event


def test_the_page_turns_to_alarm_by_itself(driver: Chrome, link: Link) -> None:
    driver.get(f"http://127.0.0.1:{link.port}/")
    wait_for(driver, "Pump", "Normal")
    driver.execute_script("window.wasNotReloaded = true")
    wait_for(driver, "1 alarm, 1 normal", "dB more than usual at 2.9-3.3 kHz", within_s=90)
    assert driver.execute_script("return window.wasNotReloaded")
    first = driver.find_element(By.CSS_SELECTOR, ".card")
    assert "is-alarm" in str(first.get_attribute("class"))  # worst first
    assert 'Fan <b id="injected">3</b>' in shown(driver)
    assert driver.find_elements(By.ID, "injected") == []


def test_the_machine_shows_what_is_heard_now(driver: Chrome) -> None:
    driver.find_element(By.CSS_SELECTOR, ".card h2 a").click()
    wait_for(driver, "Sound now", "Events", "Acknowledge", "live")
    pixels = (
        "const c = document.querySelector('.fall canvas'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; "
    )
    pixels += "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n / (d.length / 4)"
    wait_until(lambda: driver.execute_script(pixels) > 0.05, what="a spectrogram of more than 3 s")
    wait_until(lambda: driver.find_elements(By.CSS_SELECTOR, ".spectrum .present"), what="the present spectrum")
    words = driver.find_element(By.CSS_SELECTOR, ".spectrum").get_attribute("aria-label")
    assert words is not None and "the largest excess is" in words and "kHz" in words


def test_acknowledging_reaches_the_service_and_the_broker(driver: Chrome, broker: Broker) -> None:
    assert not retained_state(broker)["acknowledged"]
    button(driver, "Acknowledge").click()
    wait_for(driver, "acknowledged. It does not notify again until it is normal.")
    wait_until(lambda: retained_state(broker)["acknowledged"], what="the acknowledgement over MQTT")
    wait_until(lambda: not button(driver, "Acknowledge").is_enabled())


def test_a_snooze_can_be_undone(driver: Chrome, broker: Broker) -> None:
    button(driver, "Snooze 1 h").click()
    wait_for(driver, "snoozed until")
    wait_until(lambda: retained_state(broker)["snoozed"], what="the broker to have the state that the page has")
    button(driver, "Undo").click()
    wait_until(lambda: not retained_state(broker)["snoozed"])
    wait_until(lambda: "snoozed until" not in shown(driver))


def test_the_event_has_its_picture_and_its_sound(driver: Chrome, node: Node, link: Link) -> None:
    identity = open_event(node)["id"]
    wait_until(lambda: node.get(f"api/events/{identity}")["has_clip"], within_s=60, what="the clip")
    driver.get(f"http://127.0.0.1:{link.port}/m/fan/e/{identity}")  # as from a link that was sent
    wait_for(driver, "What is different", "dB more than usual at", "lasting change")
    wait_until(
        lambda: driver.execute_script("return document.querySelector('.picture')?.naturalWidth") == 960, what="the picture"
    )
    play = "const a = document.querySelector('audio'); a.muted = true; a.play(); return true"
    assert driver.execute_script(play)
    wait_until(lambda: driver.execute_script("return document.querySelector('audio').currentTime") > 0.2, what="the sound")
    assert 8 < driver.execute_script("return document.querySelector('audio').duration") < 14


def test_listening_brings_samples(driver: Chrome, link: Link) -> None:
    driver.get(f"http://127.0.0.1:{link.port}/m/fan")
    wait_for(driver, "Sound now", "live")
    button(driver, "Listen").click()
    wait_for(driver, "Stop listening", "someone listens to")
    wait_until(lambda: link.n_sound_bytes > 3 * 32_000, what="3 s of sound")
    button(driver, "Stop listening").click()
    wait_until(lambda: "someone listens" not in shown(driver), what="the end of listening")
    assert errors(driver) == []


def test_a_broken_connection_is_resumed_without_a_lost_event(driver: Chrome, broker: Broker, node: Node, link: Link) -> None:
    event = open_event(node)
    driver.get(f"http://127.0.0.1:{link.port}/")
    wait_for(driver, "1 alarm, 1 normal", "live")
    driver.execute_script("window.wasNotReloaded = true")
    link.cut()
    wait_for(driver, "no connection", "The node does not answer")
    say(broker, "stethos/workshop/fan/set/disable", "{}")
    wait_until(lambda: node.get(f"api/events/{event['id']}")["end_reason"] == "disabled", what="the end of the event")
    n_before = len(link.requests)
    link.mend()
    wait_for(driver, "Disabled", "live")
    assert "The node does not answer" not in shown(driver)
    resumed = [one for one in link.requests[n_before:] if b"GET /api/stream" in one]
    assert resumed and (b"last=" in resumed[0] or b"last-event-id" in resumed[0].lower())
    driver.find_element(By.LINK_TEXT, 'Fan <b id="injected">3</b>').click()
    wait_for(driver, "Enable")
    driver.find_element(By.CSS_SELECTOR, ".events a").click()
    wait_for(driver, "the machine was disabled")
    assert driver.execute_script("return window.wasNotReloaded")


def test_it_polls_where_something_holds_the_stream_back(driver: Chrome, node: Node, link: Link, broker: Broker) -> None:
    link.swallow = b"GET /api/stream"
    try:
        driver.get(f"http://127.0.0.1:{link.port}/")
        wait_for(driver, "every 5 s", "Disabled")
        say(broker, "stethos/workshop/fan/set/enable", "{}")
        wait_until(lambda: "Disabled" not in shown(driver), within_s=20, what="the news by polling")
    finally:
        link.swallow = None


def test_a_hidden_page_closes_its_stream(driver: Chrome, link: Link) -> None:
    driver.get(f"http://127.0.0.1:{link.port}/")
    wait_for(driver, "live")
    hide = "const is = arguments[0]; Object.defineProperty(document, 'hidden', {configurable: true, get: () => is}); "
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    began = time.monotonic()
    driver.execute_script(hide, True)
    wait_for(driver, "paused", within_s=60)
    assert time.monotonic() - began > 25
    driver.execute_script(hide, False)
    wait_for(driver, "live")


def test_a_stopped_service_is_said_until_it_runs_again(driver: Chrome, node: Node, link: Link) -> None:
    driver.get(f"http://127.0.0.1:{link.port}/")
    wait_for(driver, "Pump", "live")
    node.stop_service()
    wait_until(lambda: driver.find_elements(By.CSS_SELECTOR, ".banner[role=alert]"), what="the banner")
    node.start_service()
    wait_for(driver, "live", "Pump", within_s=90)
    wait_until(lambda: not driver.find_elements(By.CSS_SELECTOR, ".banner"), what="the end of the banner")


def test_learning_shows_its_progress(driver: Chrome, link: Link) -> None:
    driver.get(f"http://127.0.0.1:{link.port}/m/pump/learn")
    wait_for(driver, "Place the microphone", "Good level", "live")
    button(driver, "Learn").click()
    wait_for(driver, "learning for 10 min", "of normal sound are missing", within_s=60)
    done = "return document.querySelector('.progress')?.innerText"
    before = driver.execute_script(done)
    wait_until(lambda: driver.execute_script(done) not in (before, None), what="progress")
    assert not button(driver, "Learn").is_enabled()
