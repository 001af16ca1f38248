"""The overview's connection to the broker, for asyncio: messages in, commands and their answers, pictures on request."""

import asyncio
import logging
import random
import secrets
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from monitor.config import MqttConfig
from monitor.errors import StethosError
from monitor.json_lines import to_json
from monitor.mqtt.client import Acknowledged, BrokerClient, Connected, Disconnected, Received, Signal
from monitor.overview.readings import ResponseReading, read

log = logging.getLogger(__name__)
MAX_PACKETS = 10_000  # per second
MAX_MESSAGE = 150_000  # bytes; pictures have up to 100 kB
MAX_WAITING = 20_000  # messages that the event loop has not taken yet
MAX_WAITING_BYTES = 16_000_000
MAX_COMMANDS = 50  # without an answer
MAX_PICTURES = 30  # kept
PICTURE_KEPT_S = 10.0
ANSWER_S, PICTURE_S = 6.0, 3.0
NO_ANSWER = f"the node did not answer within {ANSWER_S:.0f} s; the broker may not let the overview send commands"
QUIET_S = 0.3  # without a message, after which the retained messages of a subscription are taken to be complete
STEADY_S = 10.0
PNG = b"\x89PNG\r\n\x1a\n"
# One after the other, because mosquitto drops retained messages beyond its queue (1,000 by default). States and health repeat, so
# QoS 0 is enough for them. There are no subscriptions to sound, pictures and commands.
SUBSCRIPTIONS = (
    ("+/+/event", 1),
    ("+/+/response", 1),
    ("+/status", 1),
    ("+/info", 1),
    ("+/+/availability", 1),
    ("+/+/state", 0),
    ("+/health", 0),
)
OnMessage = Callable[[Received], None]


class NotDone(StethosError):
    """A command or request that got no answer."""


class Broker:
    """Connects, and reconnects without limit. `on_message` and `on_state` run in the event loop.

    `on_state` receives whether everything is subscribed to, and the reason if it is not.

    Topics are relative to the prefix.
    """

    def __init__(
        self, config: MqttConfig, *, on_message: Callable[[Received], None], on_state: Callable[[bool, str | None], None]
    ) -> None:
        self.n_lost = 0  # messages that arrived faster than they could be taken
        self.n_connections = 0
        self._config = config
        self._on_message, self._on_state = on_message, on_state
        self._client_id = f"{config.client_id or 'stethos'}-overview-{secrets.token_hex(3)}"
        self._client: BrokerClient | None = None
        self._connected = False
        self._lock = threading.Lock()
        self._waiting: deque[Received] = deque()
        self._waiting_bytes = 0
        self._arrived_at = 0.0
        self._signals: asyncio.Queue[tuple[BrokerClient, Signal]] = asyncio.Queue()
        self._commands: dict[str, asyncio.Future[ResponseReading]] = {}
        self._pictures: OrderedDict[str, tuple[float, asyncio.Future[bytes]]] = OrderedDict()
        self._users: Counter[str] = Counter()
        self._subscribing: asyncio.Task[None] | None = None
        self._named: dict[int | None, str] = {}

    async def run(self) -> None:
        """Receive until cancelled."""
        self._loop = asyncio.get_running_loop()
        backoff_s = self._config.reconnect_min_s
        try:
            while True:
                began = time.monotonic()
                reason = await self._one_connection()
                self._connected = False
                self._on_state(False, f"the broker {self._config.address} {reason}")
                if time.monotonic() - began > STEADY_S:
                    backoff_s = self._config.reconnect_min_s
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))
                backoff_s = min(2 * backoff_s, self._config.reconnect_max_s, 15.0)  # somebody is looking
        finally:
            if self._client is not None:
                await asyncio.to_thread(self._client.disconnect)

    async def command(self, key: str, name: str, **arguments: Any) -> ResponseReading:
        """Send a command to a machine and return the node's answer."""
        if not self._connected or self._client is None:
            raise NotDone("the broker is not connected")
        if len(self._commands) >= MAX_COMMANDS:
            raise NotDone(f"{MAX_COMMANDS} commands wait for an answer already; try again later")
        request = f"overview-{secrets.token_hex(8)}"
        answer = self._commands[request] = self._loop.create_future()
        payload = to_json({**arguments, "request": request})
        try:
            self._client.publish(f"{self._config.prefix}/{key}/set/{name}", payload, qos=1, retain=False)
            return await asyncio.wait_for(answer, ANSWER_S)
        except asyncio.TimeoutError:
            raise NotDone(NO_ANSWER) from None
        finally:
            del self._commands[request]

    async def picture(self, key: str) -> bytes:
        """The picture of a machine's last event, PNG."""
        known = self._pictures.get(key)
        if known is None or known[0] < time.monotonic():
            if not self._connected or self._client is None:
                raise NotDone("the broker is not connected")
            while len(self._pictures) >= MAX_PICTURES:
                self._pictures.popitem(last=False)
            known = self._pictures[key] = time.monotonic() + PICTURE_KEPT_S, self._loop.create_future()
            self._client.subscribe(f"{self._config.prefix}/{key}/snapshot", qos=0)
        self._users[key] += 1
        try:
            return await asyncio.wait_for(asyncio.shield(known[1]), PICTURE_S)
        except asyncio.TimeoutError:
            self._pictures.pop(key, None)
            raise NotDone("there is no picture of this machine") from None
        finally:
            self._users[key] -= 1
            self._users = +self._users
            if key not in self._users and self._client is not None and self._connected:
                self._client.unsubscribe(f"{self._config.prefix}/{key}/snapshot")

    async def _one_connection(self) -> str:
        """From connecting to the end of the connection; returns its reason."""
        client = BrokerClient(
            self._config,
            client_id=self._client_id,
            will=None,
            on_signal=lambda signal: self._call(self._signals.put_nowait, (client, signal)),
            on_message=self._receive,
            max_packets=MAX_PACKETS,
            max_message=MAX_MESSAGE,
        )
        try:
            client.start()
        except (OSError, RuntimeError) as error:  # no more sockets or threads
            return f"cannot be reached: {error}"
        self._client = client
        try:
            while True:
                source, signal = await self._signals.get()
                if source is not client:
                    continue
                if isinstance(signal, Disconnected):
                    log.warning("mqtt: %s %s; retrying", self._config.address, signal.reason)
                    return signal.reason
                if isinstance(signal, Connected):
                    log.info("mqtt: connected to %s", self._config.address)
                    self.n_connections += 1
                    self._connected = True
                    self._subscribing = asyncio.create_task(self._subscribe(client))
                elif isinstance(signal, Acknowledged) and signal.refusal is not None and signal.mid in self._named:
                    topic = self._named[signal.mid]
                    log.error("mqtt: the subscription to %s was rejected by %s: %s", topic, self._config.address, signal.refusal)
        finally:
            if self._subscribing is not None:
                self._subscribing.cancel()

    async def _subscribe(self, client: BrokerClient) -> None:
        """Subscribe to one topic after the other, each when the retained messages of the one before have arrived."""
        self._named = {}
        for topic, qos in SUBSCRIPTIONS:
            self._named[client.subscribe(f"{self._config.prefix}/{topic}", qos=qos)] = topic
            for _ in range(20):
                await asyncio.sleep(QUIET_S)
                if time.monotonic() - self._arrived_at > QUIET_S:
                    break
        self._on_state(True, None)

    # On the connection's thread.

    def _receive(self, message: Received) -> None:
        with self._lock:
            if message.retained:
                self._arrived_at = time.monotonic()
            if len(self._waiting) >= MAX_WAITING or self._waiting_bytes + len(message.payload) > MAX_WAITING_BYTES:
                self.n_lost += 1
                return
            self._waiting.append(message)
            self._waiting_bytes += len(message.payload)
            if len(self._waiting) > 1:
                return  # the event loop has been called already
        self._call(self._take_all)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the event loop.

    def _take_all(self) -> None:
        with self._lock:
            messages, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
        start = len(self._config.prefix) + 1
        for message in messages:
            topic = message.topic[start:]
            try:
                if topic.endswith("/snapshot"):
                    self._take_picture(topic.removesuffix("/snapshot"), message)
                elif topic.endswith("/response"):
                    self._take_response(message)
                else:
                    self._on_message(message)
            except Exception:
                log.exception("mqtt: unexpected error with a message")

    def _take_picture(self, key: str, message: Received) -> None:
        known = self._pictures.get(key)
        if known is not None and not known[1].done() and message.payload.startswith(PNG) and not message.n_discarded:
            known[1].set_result(message.payload)

    def _take_response(self, message: Received) -> None:
        response = read(ResponseReading, message.payload)
        waiting = self._commands.get(response.request or "") if response is not None else None
        if response is not None and waiting is not None and not waiting.done():
            waiting.set_result(response)
