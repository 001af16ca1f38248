"""Tasks end even if a cancellation is lost."""

import asyncio
from contextlib import suppress

from monitor.web.tasks import end


def test_a_task_that_loses_a_cancellation_ends() -> None:
    n_lost = 0

    async def deaf() -> None:
        nonlocal n_lost
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        n_lost += 1
        await asyncio.sleep(60)

    async def run() -> bool:
        task, quick = asyncio.ensure_future(deaf()), asyncio.ensure_future(asyncio.sleep(0))
        await asyncio.sleep(0.01)
        await asyncio.wait_for(end(task, quick), 5)
        return task.cancelled()

    assert asyncio.run(run())
    assert n_lost == 1
