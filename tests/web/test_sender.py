"""The sender of a request and its body, without a server."""

import asyncio
from pathlib import Path

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from monitor.config.web import WebConfig
from monitor.web.access.gate import Gate, Visitor
from monitor.web.access.passwords import Passwords
from monitor.web.access.sessions import Sessions
from monitor.web.problems import Problem
from monitor.web.queries import json_body


def visitor_of(folder: Path, *headers: tuple[str, str]) -> Visitor:
    """Who sent a GET with these headers through a proxy of this computer."""
    found: list[Visitor] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(scope["visitor"])

    async def nothing() -> Message:
        return {"type": "http.request"}

    async def ignore(message: Message) -> None:
        pass

    passwords = Passwords(folder)
    passwords.set("admin", "correct horse")
    config = WebConfig.model_validate({"proxies": ["127.0.0.1"], "hosts": ["plant.example.org"]})
    gate = Gate(app, config=config, passwords=passwords, sessions=Sessions(folder, passwords))
    raw = Headers(raw=[(name.encode(), value.encode()) for name, value in [("host", "plant.example.org"), *headers]]).raw
    scope = {"type": "http", "method": "GET", "path": "/", "raw_path": b"/", "scheme": "http", "client": ("127.0.0.1", 1)}
    asyncio.run(gate({**scope, "headers": raw}, nothing, ignore))
    return found[0]


def test_the_line_that_the_proxy_adds_counts_and_not_that_of_the_client(tmp_path: Path) -> None:
    who = visitor_of(
        tmp_path,
        ("x-forwarded-for", "203.0.113.5"),
        ("x-forwarded-for", "192.0.2.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-proto", "https"),
    )
    assert (who.address, who.is_encrypted) == ("192.0.2.9", True)


@pytest.mark.parametrize("body", [b'{"minutes": 1e999}', b'{"request": "\\ud800"}', b'{"x": NaN}', b"[]", b"{", b"\xff"])
def test_a_body_that_the_service_cannot_read_is_refused(body: bytes) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    with pytest.raises(Problem, match="the body must be a JSON object"):
        asyncio.run(json_body(Request({"type": "http", "headers": []}, receive)))
