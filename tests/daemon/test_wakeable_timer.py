"""A wait ends in time, or when any thread ends it."""

import asyncio
import threading
import time

from monitor.daemon.wakeable_timer import WakeableTimer


def test_it_waits_and_is_woken_from_any_thread_also_before_it_waits() -> None:
    timer = WakeableTimer()
    timer.wake()  # without an event loop

    async def waits() -> list[float]:
        times_s = []
        began = time.monotonic()
        await timer.wait(0.1)
        times_s.append(time.monotonic() - began)
        threading.Timer(0.05, timer.wake).start()
        await timer.wait(60.0)
        threading.Thread(target=timer.wake).start()
        await asyncio.sleep(0.05)
        await timer.wait(60.0)
        began = time.monotonic()
        await timer.wait(0.1)  # no wake is left over
        times_s.append(time.monotonic() - began)
        return times_s

    assert min(asyncio.run(waits())) >= 0.09
    timer.wake()  # after the loop was closed
