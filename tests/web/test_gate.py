"""The page lets in only whom it should: every route, host, origin, header, size and password."""

import http.client
import json
import os
import re
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.conftest import need
from tests.web.page_process import ADMIN, ROOT, VIEWER, Client, PageProcess, running_page

EVENT = "f1443b8e-4545-5056-a24c-af876cd15ebf"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageProcess]:
    """One with both passwords, and no service behind it."""
    settings = "  hosts: [plant.example.org]\n  proxies: [192.0.2.0/24]\n"
    with running_page(tmp_path_factory.mktemp("page"), settings) as page:
        yield page


@pytest.fixture(scope="module")
def admin(page: PageProcess) -> Client:
    return page.client().login(ADMIN)


@pytest.fixture(scope="module")
def viewer(page: PageProcess) -> Client:
    return page.client().login(VIEWER)


def routes() -> list[tuple[str, str]]:
    """Every route of the description."""
    described = json.loads((ROOT / "monitor" / "web" / "openapi.json").read_text())["paths"]
    return [
        (method.upper(), path.lstrip("/").format(machine="fan", event=EVENT))
        for path, methods in described.items()
        for method in methods
    ]


def test_every_route_is_described() -> None:
    served = set(re.findall(r'Route\(f?"(?:/|\{one\})([^"]*)"', (ROOT / "monitor" / "web" / "app.py").read_text()))
    assert len(served) >= 15
    described = {path for _, path in routes()}
    assert "api/machines/fan/ack" in described
    assert "metrics" in described


@pytest.mark.parametrize(("method", "path"), routes())
def test_without_a_session_every_route_is_closed(page: PageProcess, method: str, path: str) -> None:
    answer = page.client().post(path) if method == "POST" else page.client().get(path)
    if path == "api/session":
        nothing = {"version": None, "node": None, "fleet": False}
        assert answer.json == {"role": None, "needs_password": True, "name": "Stethos", **nothing}
    elif path == "api/login":
        assert (answer.status, answer.json["field"]) == (422, "password")
    else:
        assert answer.status == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["detail"] == "log in first"


@pytest.mark.parametrize("path", ["api", "api/", "api/nothing", "%61pi/machines", "api/../api/node", "metrics/", "metricsx"])
def test_whatever_looks_like_a_route_is_closed_too(page: PageProcess, path: str) -> None:
    assert page.client().get(path).status == 401


@pytest.mark.parametrize("cookie", ["stethos_session=", "stethos_session=x", "stethos_session=" + "é" * 50, "=;;,=", "x" * 9_000])
def test_a_cookie_that_is_none_opens_nothing(page: PageProcess, cookie: str) -> None:
    assert page.client().get("api/node", Cookie=cookie.encode().decode("latin-1")).status == 401


def test_a_session_begins_with_a_password_and_ends_with_logout(page: PageProcess) -> None:
    client = page.client()
    answer = client.post("api/login", {"password": ADMIN})
    assert answer.json == {"role": "admin"}
    attributes = set(answer.headers["set-cookie"].lower().split("; ")[1:])
    assert {"httponly", "samesite=strict"} <= attributes
    assert not any(one.startswith(("path", "domain")) for one in attributes)
    assert client.get("api/session").json["role"] == "admin"
    token = client.cookie
    assert client.post("api/logout").json == {"role": None}
    assert Client(page.port, cookie=token).get("api/session").json["role"] is None


def test_a_viewer_sees_and_changes_nothing(viewer: Client) -> None:
    assert viewer.get("api/session").json["role"] == "viewer"
    assert viewer.get("api/openapi.json").json["openapi"] == "3.1.0"
    for method, path in routes():
        if method == "POST" and "machines" in path:
            answer = viewer.post(path)
            assert (answer.status, answer.json["detail"]) == (403, "this login may only look; log in as administrator")


def test_the_service_that_is_away_is_named(admin: Client) -> None:
    for path in ("api/machines", "api/node", "api/machines/fan/history", f"api/events/{EVENT}", "api/settings"):
        answer = admin.get(path)
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert answer.json["detail"] == "the service does not run; start it with: sudo systemctl start stethos"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::1", "plant.example.orgx"]
)
def test_a_wrong_host_is_refused_with_and_without_a_session(admin: Client, host: str) -> None:
    for path in ("", "api/session", "api/node", "static/app.js"):
        answer = admin.request("GET", path, Host=host or " ")
        assert answer.status in (400, 403)


@pytest.mark.parametrize(
    "host", ["plant.example.org", "Plant.Example.org:8080", "192.0.2.7:8470", "[2001:db8::1]:8470", "localhost"]
)
def test_own_names_and_all_addresses_are_hosts(page: PageProcess, host: str) -> None:
    assert Client(page.port, host=host).get("api/session").status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 503),
        ({"X_Stethos": ""}, 403),
        ({"X_Stethos": "0"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": ""}, 503),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Sec_Fetch_Site": "none"}, 403),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": ""}, 415),
    ],
    ids=str,
)
def test_what_another_site_could_send_changes_nothing(admin: Client, headers: dict[str, str], status: int) -> None:
    """503 is the service's absence: such a request would have been passed on to it."""
    assert admin.post("api/machines/fan/ack", **headers).status == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(admin: Client, method: str) -> None:
    answer = admin.request(method, "api/machines/fan/ack", X_Stethos="1")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")


def test_forwarded_headers_of_strangers_mean_nothing(page: PageProcess) -> None:
    client = Client(page.port)
    forwarded = {"X_Forwarded_Host": "plant.example.org", "X_Forwarded_Proto": "https"}
    assert client.get("api/session", Host="evil.example", **forwarded).status == 403
    cookie = client.post("api/login", {"password": ADMIN}, **forwarded).headers["set-cookie"]
    assert "secure" not in cookie.lower()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'{"password": 1}', b'{"password": NaN}', b'{"password": "x", "more": 1}', b"[" * 9_000, b"\xff"],
)
def test_a_login_that_is_no_login_is_refused(page: PageProcess, body: bytes) -> None:
    answer = page.client().request("POST", "api/login", body, X_Stethos="1", Content_Type="application/json")
    assert answer.status in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_huge_bodies_are_refused_before_they_are_read(page: PageProcess) -> None:
    with socket.create_connection(("127.0.0.1", page.port), 20) as connection:
        head = "POST /api/login HTTP/1.1\r\nHost: localhost\r\nX-Stethos: 1\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: 99999999999999999999\r\n\r\n".encode())
        assert b" 413 " in connection.recv(100)
    with socket.create_connection(("127.0.0.1", page.port), 20) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"1000\r\n" + b"x" * 4096 + b"\r\n")
        for _ in range(4):
            connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        assert b" 413 " in connection.recv(100)


def test_a_head_of_any_length_is_refused(page: PageProcess) -> None:
    with socket.create_connection(("127.0.0.1", page.port), 20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000)
        refused = connection.recv(100)
    assert refused.startswith(b"HTTP/1.1 4")
    # Usually these arrive as a whole, which h11 does not limit.
    assert page.client().get("api/session", X_Large="x" * 20_000).status in (400, 431)
    assert page.client().get("api/session", **{f"X_{n}": "x" * 20 for n in range(800)}).status in (400, 431)
    assert page.client().get(f"api/session?{'x' * 20_000}").status in (400, 431)


def test_odd_requests_leave_no_advice_in_the_log(page: PageProcess) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    assert page.client().get("api/stream", Sec_WebSocket_Version="13", **upgrade).status == 401
    assert "websocket" not in page.log.lower()


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /api/session HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"POST /api/login HTTP/1.1\r\nHost: localhost\r\n"
        b"X-Stethos: 1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_slow_requests_are_ended(page: PageProcess, begun: bytes) -> None:
    """Slowloris: one byte now and then."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", page.port), 30) as connection:
        connection.sendall(begun)
        connection.settimeout(1)
        received = b""
        while time.monotonic() - began < 25:
            try:
                if not (more := connection.recv(1000)):
                    break
                received += more
            except TimeoutError:
                with suppress(ConnectionError):
                    connection.sendall(b"x" if begun else b"")
            except ConnectionError:
                break
        assert time.monotonic() - began < 14
    assert received == b"" or b" 408 " in received


TRAVERSALS = [
    "static/../app.py",
    "static/../../../../etc/passwd",
    "static/%2e%2e/app.py",
    "static/..%2fapp.py",
    "static//etc/passwd.txt",
    "static/%2fetc/passwd.txt",
    "static/..\\app.py",
    "static/%00.js",
    "static/.js",
    "static/./../server.py.js",
    f"static/{'a' * 5_000}.js",
]


@pytest.mark.parametrize("path", TRAVERSALS, ids=range(len(TRAVERSALS)))
def test_no_path_leads_out_of_the_pages_folder(page: PageProcess, path: str) -> None:
    assert page.client().get(path).status == 404


@pytest.mark.parametrize("path", ["", "m/fan", "node", "api/session", "nothing.js", "static/nothing.js"])
def test_every_response_has_the_security_headers(page: PageProcess, path: str) -> None:
    headers = page.client().get(path).headers
    assert headers["content-security-policy"].startswith("default-src 'self';")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def test_metrics_take_a_password_in_the_header(page: PageProcess) -> None:
    right, wrong = ("Basic cHJvbWV0aGV1czpiYXR0ZXJ5IHN0YXBsZQ==", "Basic cHJvbWV0aGV1czpiYXR0ZXJ5")  # VIEWER's, and half of it
    client = page.client()
    refused = client.get("metrics")
    assert (refused.status, refused.headers["www-authenticate"].split()[0]) == (401, "Basic")
    for text in (wrong, "Basic !", "Basic", "Bearer x"):
        assert client.get("metrics", Authorization=text).status == 401
    answers = [client.get("metrics", Authorization=right) for _ in range(2)]
    assert {(answer.status, b"stethos_up 0" in answer.body) for answer in answers} == {(200, True)}
    assert client.get("api/node", Authorization=right).status == 401


def test_the_passwords_are_hashed_and_nobody_else_can_read_them(page: PageProcess, admin: Client) -> None:
    folder = page.folder / "web-state"
    for name in ("passwords.json", "sessions.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert ADMIN not in (folder / name).read_text()
        assert str(admin.cookie).partition("=")[2] not in (folder / name).read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_passwords_can_be_tried_a_few_times_only(tmp_path: Path) -> None:
    with running_page(tmp_path / "page", "  proxies: [127.0.0.1]\n") as page:
        client = page.client()
        for _ in range(8):
            assert client.post("api/login", {"password": "wrong one"}).status == 401
        answer = client.post("api/login", {"password": ADMIN})
        assert answer.status == 429
        assert 0 < int(answer.headers["retry-after"]) <= 601
        assert client.post("api/login", {"password": ADMIN}, X_Forwarded_For="192.0.2.9, 127.0.0.1").status == 200


def test_a_new_password_ends_the_sessions_of_the_old_one_and_a_restart_does_not(tmp_path: Path) -> None:
    with running_page(tmp_path / "page") as page:
        admin, viewer = page.client().login(ADMIN), page.client().login(VIEWER)
        assert page.stop() == 0
        page.start()
        assert [one.get("api/session").json["role"] for one in (admin, viewer)] == ["admin", "viewer"]
        assert page.set_password("another one").returncode == 0
        assert [one.get("api/session").json["role"] for one in (admin, viewer)] == [None, "viewer"]
        assert page.client().post("api/login", {"password": ADMIN}).status == 401


def test_a_damaged_password_file_lets_nobody_in(tmp_path: Path) -> None:
    with running_page(tmp_path / "page") as page:
        admin = page.client().login(ADMIN)
        (page.folder / "web-state" / "passwords.json").write_text('{"admin": {"salt": ""}}')
        assert admin.get("api/node").status == 401
        answer = page.client().post("api/login", {"password": ADMIN})
        assert (answer.status, "Traceback" in page.log) == (503, False)
        assert page.set_password(ADMIN).returncode == 0
        assert page.client().post("api/login", {"password": ADMIN}).status == 200


@pytest.mark.parametrize(
    ("password", "option", "reason"),
    [
        ("short", "--set-password", "a password must have 8 to 200 characters, got 5"),
        ("x" * 201, "--set-password", "a password must have 8 to 200 characters, got 201"),
        ("long enough", "--set-viewer-password", "set the administrator's password first (--set-password)"),
    ],
)
def test_a_password_that_is_none_is_refused_in_one_line(tmp_path: Path, password: str, option: str, reason: str) -> None:
    done = PageProcess(tmp_path / "page").set_password(password, option)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"monitor: error: {reason}\n")


def test_without_a_password_only_this_computer_sees_the_page(tmp_path: Path) -> None:
    with running_page(tmp_path / "page", passwords=False) as page:
        client = page.client()
        assert client.get("api/session").json["role"] == "admin"
        assert client.get("api/openapi.json").status == 200
        assert client.get("api/session", X_Forwarded_For="192.0.2.9").status == 403
        assert client.get("api/session", Host="192.0.2.7").status == 403
        assert client.post("api/machines/fan/ack", Origin="http://evil.example").status == 403
        with socket.socket() as other:
            other.settimeout(5)
            assert other.connect_ex((socket.gethostbyname(socket.gethostname()), page.port)) != 0 or _is_loopback()
        assert "set a password" in page.log


def test_root_does_not_use_the_folder_of_another_user(tmp_path: Path) -> None:
    need(os.geteuid() == 0, "root")
    page = PageProcess(tmp_path / "page")
    folder = page.folder / "web-state"
    folder.mkdir()
    os.chown(folder, 12_345, 12_345)
    done = subprocess.run(page.command(), capture_output=True, text=True, env=page.environment, timeout=20, check=False)
    reason = f"{folder} belongs to user 12345: run as that user (systemctl start stethos-web), not as root"
    assert (done.returncode, done.stderr) == (78, f"monitor: error: the page's folder {reason}\n")


def _is_loopback() -> bool:
    return socket.gethostbyname(socket.gethostname()).startswith("127.")


def test_it_speaks_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    made = authority.sign("page", host="127.0.0.1")
    settings = f"  tls: {{certificate: {made.certificate}, key: {made.key}}}\n"
    page = PageProcess(tmp_path / "page", settings)
    assert page.set_password(ADMIN).returncode == 0
    try:
        page.start()
        context = ssl.create_default_context(cafile=str(authority.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", page.port, timeout=20, context=context)
        headers = {"X-Stethos": "1", "Content-Type": "application/json"}
        connection.request("POST", "/api/login", json.dumps({"password": ADMIN}), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert "secure" in answer.headers["set-cookie"].lower()
        connection.close()
        with socket.create_connection(("127.0.0.1", page.port), 20) as silent:
            began = time.monotonic()
            assert silent.recv(1) == b""
            assert 5 < time.monotonic() - began < 14
    finally:
        page.kill()


@pytest.mark.parametrize("missing", ["certificate", "key"])
def test_a_certificate_that_cannot_be_read_is_one_line(tmp_path: Path, missing: str) -> None:
    made = Authority(tmp_path).sign("page", host="127.0.0.1")
    paths = {"certificate": made.certificate, "key": made.key, missing: tmp_path / "nothing.pem"}
    page = PageProcess(tmp_path / "page", f"  tls: {{certificate: {paths['certificate']}, key: {paths['key']}}}\n")
    done = subprocess.run(page.command(), capture_output=True, text=True, env=page.environment, timeout=30, check=False)
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1] == f"monitor: error: web.tls.{missing} {tmp_path}/nothing.pem: No such file or directory"


def test_a_port_in_use_is_one_line(page: PageProcess, tmp_path: Path) -> None:
    second = PageProcess(tmp_path / "second", port=page.port)
    done = subprocess.run(second.command(), capture_output=True, text=True, env=second.environment, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == f"monitor: error: 127.0.0.1:{page.port}: cannot be listened on: Address already in use\n"
