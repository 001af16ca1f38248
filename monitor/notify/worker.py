"""The thread that stores messages, and sends them one at a time by a child process, until each is delivered."""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from monitor.config import NotifyConfig
from monitor.errors import SinkError
from monitor.notify.child import TIMEOUT_S, Outcome, Sending
from monitor.notify.job import make_job
from monitor.notify.message import Message
from monitor.notify.queue import NotifyQueue, Waiting
from monitor.threads import WatchedThread

log = logging.getLogger(__name__)
MAX_INCOMING = 100  # while the disk is slow
POLL_S = 0.5
SENDING_POLL_S = 0.1  # new messages are stored this soon while one is sent
PICTURE_S = 15.0  # a message waits for its picture for at most this long
MAX_WITH_PICTURE = 3  # after as many failures it is sent without: some services send the text first and then refuse the file
RETRY_S, MAX_RETRY_S = 10.0, 600.0  # after a failure; doubled with each in a row


@dataclass
class _Failing:
    """A target to which the last attempt failed."""

    wait_s: float
    retry_at: float  # monotonic, s
    n_in_a_row: int


class NotifyWorker:
    """Delivers messages. `put` and `attach` may be called on any thread and return at once.

    The messages of a target are sent in their order, except that alarms overtake warnings during its quiet hours.
    """

    def __init__(self, queue: NotifyQueue, *, retry_s: float = RETRY_S, max_retry_s: float = MAX_RETRY_S) -> None:
        self.n_failed = 0  # attempts
        self.last_sent: dict[str, str] = {}  # the event of the last message that was delivered, by target
        self._queue = queue
        self._retry_s, self._max_retry_s = retry_s, max_retry_s
        self._targets: Mapping[str, NotifyConfig] = {}
        self._changed = threading.Condition()  # guards the next four
        self._messages: deque[Message] = deque()
        self._pictures: dict[str, bytes] = {}  # by event
        self._picture_by: dict[str, float] = {}  # by event: until when its messages wait for it
        self._is_stopping = False
        self._n_overflows = 0
        self._failing: dict[str, _Failing] = {}
        self._thread = WatchedThread("notify", self._run)

    @property
    def n_incoming(self) -> int:
        """Messages that are not stored yet."""
        return len(self._messages)

    @property
    def n_queued(self) -> int:
        """Messages that are not delivered yet."""
        return self._queue.n + self.n_incoming

    @property
    def n_dropped(self) -> int:
        """Messages that were given up: no room, or their target was removed from the configuration."""
        return self._queue.n_dropped + self._n_overflows

    def configure(self, targets: Mapping[str, NotifyConfig]) -> None:
        """Set the targets, by name."""
        with self._changed:
            self._targets = targets
            self._failing = {}
            self._changed.notify()

    def put(self, message: Message, *, waits_for_picture: bool) -> None:
        """Queue a message, or drop it if the disk is too slow to keep up."""
        with self._changed:
            if len(self._messages) >= MAX_INCOMING:
                self._n_overflows += 1
                return
            self._messages.append(message)
            if waits_for_picture:
                self._picture_by.setdefault(message.event, time.monotonic() + PICTURE_S)
            self._changed.notify()

    def attach(self, event: str, picture: bytes) -> None:
        """Add the picture of an event to its waiting messages."""
        with self._changed:
            if event in self._picture_by:
                self._pictures[event] = picture
                self._changed.notify()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Store everything and stop, at most after `timeout_s`. A message that is being sent stays queued."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    @property
    def n_failures(self) -> int:
        """Unexpected errors of the thread."""
        return self._thread.n_failures

    def advanced(self) -> int:
        """A number that changes while the thread makes progress or waits for work."""
        return self._thread.advanced()

    def _run(self) -> None:
        while not self._is_stopping:
            self._thread.advance()
            self._queue.check_disk()
            self._store()
            if (found := self._next()) is not None:
                self._send(*found)
                continue
            with self._changed:
                if not self._messages and not self._pictures and not self._is_stopping:
                    self._changed.wait(POLL_S)
        self._store()
        self._queue.close()

    def _store(self) -> None:
        with self._changed:
            messages, pictures = list(self._messages), dict(self._pictures)
        if messages:
            self._queue.add(messages)
        for event, picture in pictures.items():
            self._queue.attach(event, picture)
        with self._changed:
            for _ in messages:
                self._messages.popleft()
            for event in pictures:
                del self._pictures[event]
                self._picture_by.pop(event, None)
            now = time.monotonic()
            self._picture_by = {event: until for event, until in self._picture_by.items() if until > now}

    def _next(self) -> tuple[Waiting, NotifyConfig] | None:
        """The next message to send now, and its target."""
        if not self._queue.n:
            return None
        targets, now, local = self._targets, time.monotonic(), datetime.now().time()
        found = self._queue.waiting()
        if left := [one.row for one in found if one.target not in targets]:
            log.warning("notify: dropped %d messages to targets that are no longer configured", len(left))
            self._queue.drop(left)
        busy: set[str] = set()  # targets with an earlier message that waits for its picture
        for one in found:
            target, failing = targets.get(one.target), self._failing.get(one.target)
            if target is None or one.target in busy or (failing is not None and now < failing.retry_at):
                continue
            if target.is_quiet(one.severity, local):
                continue
            if target.picture and not one.has_picture and one.event in self._picture_by:
                busy.add(one.target)
                continue
            return one, target
        return None

    def _send(self, waiting: Waiting, target: NotifyConfig) -> None:
        outcome = self._attempt(waiting, target)
        if outcome is None:
            return
        name = waiting.target
        if outcome.error is None:
            self._queue.remove(waiting.row)
            self.last_sent[name] = waiting.event
            if self._failing.pop(name, None) is not None:
                log.info("notify: %s: sent again", name)
            return
        self.n_failed += 1
        before = self._failing.get(name)
        wait_s = self._retry_s if before is None else min(2.0 * before.wait_s, self._max_retry_s)
        self._failing[name] = _Failing(wait_s, time.monotonic() + wait_s, 1 if before is None else before.n_in_a_row + 1)
        if before is None:
            log.error("notify: %s: cannot send, will be tried again: %s", name, outcome.error)

    def _attempt(self, waiting: Waiting, target: NotifyConfig) -> Outcome | None:
        """Send a message; None if this was interrupted by the stop, or there is no such message."""
        found = self._queue.read(waiting)
        if found is None:
            return None
        message, picture = found
        failing = self._failing.get(waiting.target)
        if failing is not None and failing.n_in_a_row >= MAX_WITH_PICTURE:
            picture = None
        try:
            sending = Sending(make_job(target.read_url(waiting.target), message, picture), timeout_s=TIMEOUT_S)
        except SinkError as error:
            return Outcome(str(error))
        except OSError as error:
            return Outcome(f"the process that sends could not be started: {error.strerror}")
        while (outcomes := sending.poll(SENDING_POLL_S)) is None:
            self._thread.advance()
            self._store()
            if self._is_stopping:
                sending.kill()
                return None
        return outcomes[0]
