"""A process that queues messages to a webhook and sends them until it is killed: PATH URL FIRST COUNT."""

import signal
import sys
import time
from pathlib import Path

from monitor.config import NotifyConfig
from monitor.notify.queue import NotifyQueue
from monitor.notify.worker import NotifyWorker
from tests.notify.test_queue import message

path, url, first, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
worker = NotifyWorker(NotifyQueue(path), retry_s=0.2, max_retry_s=0.4)
worker.configure({"shift": NotifyConfig(url=url)})
for number in range(first, first + count):
    worker.put(message(number), waits_for_picture=False)
worker.start()
while worker.n_incoming:
    time.sleep(0.01)
print("stored", flush=True)
signal.pause()
