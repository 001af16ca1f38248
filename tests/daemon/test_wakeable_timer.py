"""A wait ends in time, or when any thread ends it."""

import asyncio
import threading
import time
from itertools import pairwise

from monitor.daemon.wakeable_timer import WakeableTimer


def test_it_waits_and_is_woken_from_any_thread_also_before_it_waits() -> None:
    timer = WakeableTimer()
    timer.wake()  # without an event loop

    async def waits() -> list[float]:
        ends_s = [time.monotonic()]

        async def wait(seconds: float) -> None:
            await timer.wait(seconds)
            ends_s.append(time.monotonic())

        await wait(0.1)
        threading.Timer(0.05, timer.wake).start()
        await wait(60.0)
        threading.Thread(target=timer.wake).start()
        await asyncio.sleep(0.05)
        await wait(60.0)
        await wait(0.1)  # no wake is left over
        return [end - begin for begin, end in pairwise(ends_s)]

    plain, woken, woken_before, after = asyncio.run(waits())
    assert min(plain, after) >= 0.09
    assert max(woken, woken_before) < 30.0
    timer.wake()  # after the loop was closed
