"""Real receivers on loopback: an HTTP server and a mail server that can be away and come back on the same port."""

import base64
import json
import threading
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.broker import free_port


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed meanwhile."""


@dataclass
class Webhook:
    """Receives what Apprise's json:// sends. While `status` is not 200 it refuses everything; `gate` holds answers back."""

    port: int = field(default_factory=free_port)
    status: int = 200
    received: list[dict[str, Any]] = field(default_factory=list)
    n_requests: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    _server: _Server | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.received]

    def has_more_than(self, n_requests: int) -> bool:
        return self.n_requests > n_requests

    def start(self) -> "Webhook":
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.n_requests += 1
                webhook.gate.wait(60)
                if webhook.status == 200:
                    webhook.received.append(body)
                self.send_response(webhook.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
                """The test prints nothing."""

        self._server = _Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> "Webhook":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.stop()


def picture_of(body: dict[str, Any]) -> bytes:
    """The attached picture."""
    (attachment,) = body["attachments"]
    assert attachment["mimetype"] == "image/png"
    return base64.b64decode(attachment["base64"])


class MailServer:
    """Receives mail without encryption."""

    def __init__(self) -> None:
        self.port = free_port()
        self.received: list[Message] = []
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 (aiosmtpd's name)
        assert isinstance(envelope.content, bytes)
        self.received.append(message_from_bytes(envelope.content))
        return "250 OK"

    @property
    def url(self) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=stethos@example.com&to=shift@example.com&mode=insecure"

    def __enter__(self) -> "MailServer":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()
