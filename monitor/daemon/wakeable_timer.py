"""A wait that any thread can end."""

import asyncio
from contextlib import suppress


class WakeableTimer:
    """Waits on one event loop, at most once at a time."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def wait(self, seconds: float) -> None:
        """Wait until `wake` is called, at most that long. A call since the last wait counts."""
        self._loop = asyncio.get_running_loop()
        timer = self._loop.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
            self._woken.clear()

    def wake(self) -> None:
        """End the wait. Can be called on any thread; before the first wait and after the last one nothing happens."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._woken.set)
