"""The browser of the page's tests."""

from tests.web.browser.conftest import axe, driver, keep_screenshot

__all__ = ["axe", "driver", "keep_screenshot"]
