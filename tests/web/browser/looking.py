"""What a person sees and does on a page in a browser."""

from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.waiting import wait_until


def shown(driver: Chrome) -> str:
    """The text of the page."""
    text: str = driver.execute_script("return document.body.innerText")
    return text


def wait_for(driver: Chrome, *texts: str, within_s: float = 30.0) -> None:
    """Wait until all texts are shown."""
    missing: list[str] = []

    def all_shown() -> bool:
        now = shown(driver)
        missing[:] = [text for text in texts if text not in now]
        return not missing

    try:
        wait_until(all_shown, within_s=within_s)
    except AssertionError:
        raise AssertionError(f"not within {within_s:.0f} s: {missing}, but\n{shown(driver)}\n{errors(driver)}") from None


def button(driver: Chrome, text: str) -> WebElement:
    """The first visible button or link with this text."""
    path = f"//*[self::button or self::a or self::summary][normalize-space()='{text}']"
    return next(one for one in driver.find_elements(By.XPATH, path) if one.is_displayed())


def resize(driver: Chrome, width: int, height: int, *, scheme: str = "light") -> None:
    """Size and colours of the screen."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})


def errors(driver: Chrome) -> list[Any]:
    """What the browser has complained about since the last call."""
    entries = driver.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry for entry in entries if entry["level"] == "SEVERE"]
