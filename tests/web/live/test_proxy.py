"""The page behind nginx, under a path: addresses, cookies, streams and commands, as docs/page.md configures it."""

import http.cookiejar
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from tests.broker import free_port
from tests.conftest import need
from tests.waiting import wait_until
from tests.web.event_source import EventSource
from tests.web.page_process import ADMIN, ROOT, Client, need_page, running_page

VIEWS = ("", "node", "m/fan", "m/fan/learn", "m/fan/e/f1443b8e-4545-5056-a24c-af876cd15ebf", "m/fan/", "m/fan?kiosk")


@contextmanager
def nginx(folder: Path, locations: str) -> Iterator[int]:
    """One with these locations on a free port."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    need(program is not None, "nginx")
    assert program is not None
    folder.mkdir()
    port = free_port()
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    server = f"server {{ listen 127.0.0.1:{port};\n{locations}\n}}"
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off;\n{temporary}\n{server}\n}}\n"
    )
    process = subprocess.Popen([program, "-e", folder / "error.log", "-c", folder / "nginx.conf"])
    try:
        wait_until(lambda: _answers(port), what="nginx")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/nothing", timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def documented(port: int) -> str:
    """The location that docs/page.md shows, for the page at this port."""
    (found,) = re.findall(r"^(location /stethos/ \{.*?^\})$", (ROOT / "docs" / "page.md").read_text(), re.DOTALL | re.MULTILINE)
    assert "127.0.0.1:8470" in found
    return str(found.replace("127.0.0.1:8470", f"127.0.0.1:{port}"))


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx that shows one page below /stethos/ and as Home Assistant does, and one that knows its path /plant."""
    need_page()
    folder = tmp_path_factory.mktemp("proxy")
    proxies = "  proxies: [127.0.0.1]\n"
    with (
        running_page(folder / "page", proxies) as page,
        running_page(folder / "whole", f"{proxies}  base_path: /plant\n") as whole,
    ):
        ingress = (
            "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header X-Ingress-Path /api/hassio_ingress/x;"
        )
        locations = [
            documented(page.port),
            f"location /plant/ {{ proxy_pass http://127.0.0.1:{whole.port}; proxy_set_header Host $http_host; }}",
            f"location /api/hassio_ingress/x/ {{ proxy_pass http://127.0.0.1:{page.port}/; {ingress} }}",
        ]
        with nginx(folder / "nginx", "\n".join(locations)) as port:
            yield port


PATHS = ("stethos", "plant", "api/hassio_ingress/x")


class Links(HTMLParser):
    """The base of a document, and the addresses in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.base = ""
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "base":
            self.base = str(values["href"])
        else:
            self.found += [str(values[name]) for name in ("href", "src") if name in values]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_finds_its_files_under_any_path(front: int, path: str, view: str) -> None:
    address = f"http://127.0.0.1:{front}/{path}/{view}"
    with urllib.request.urlopen(address, timeout=20) as answer:
        links = Links(answer.read().decode())
    base = urljoin(address, links.base)
    assert base == f"http://127.0.0.1:{front}/{path}/"
    files = [urljoin(base, link) for link in links.found]
    assert f"{base}static/style.css" in files
    for file in files:
        with urllib.request.urlopen(file, timeout=20) as answer:
            assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", PATHS)
def test_a_browser_logs_in_and_orders_under_any_path(front: int, path: str) -> None:
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    root = f"http://127.0.0.1:{front}/{path}"

    def post(name: str, body: object) -> Any:
        headers = {"Content-Type": "application/json", "X-Stethos": "1", "Origin": f"http://127.0.0.1:{front}"}
        return browser.open(urllib.request.Request(f"{root}/{name}", json.dumps(body).encode(), headers), timeout=20)

    assert json.load(post("api/login", {"password": ADMIN})) == {"role": "admin"}
    assert [cookie.path for cookie in jar] == [f"/{path}/api"]
    assert json.load(browser.open(f"{root}/api/session", timeout=20))["role"] == "admin"
    with pytest.raises(urllib.error.HTTPError) as refused:  # it got as far as to the service, which does not run
        post("api/machines/fan/ack", {})
    assert refused.value.code == 503
    assert json.load(post("api/logout", {})) == {"role": None}
    assert json.load(browser.open(f"{root}/api/session", timeout=20))["role"] is None


@pytest.mark.parametrize("path", PATHS)
def test_a_stream_is_not_held_back(front: int, path: str) -> None:
    client = Client(front, path=f"/{path}").login(ADMIN)
    with EventSource(client) as source:
        assert source.until("service", within_s=5.0).data["running"] is False
        assert not source.ended


def test_the_address_that_a_named_proxy_reports_is_believed_for_attempts(front: int) -> None:
    """nginx replaces what a client claims; so those of a client that claims to be many are counted together."""
    client = Client(front, path="/stethos")
    answers = [client.post("api/login", {"password": "wrong one"}, X_Forwarded_For=f"192.0.2.{n}").status for n in range(9)]
    assert answers == [401] * 8 + [429]
