"""The real page in its own process, and a small HTTP client that keeps cookies as a browser does."""

import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.broker import free_port
from tests.conftest import need
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "monitor" / "web" / "static"
ADMIN, VIEWER = "correct horse", "battery staple"


def need_page() -> None:
    """Skip the test, or fail it under CI, unless the page's files are those of its sources."""
    need(subprocess.run([ROOT / "scripts" / "make-page", "--check"], check=False).returncode == 0, "the page (scripts/make-page)")


@dataclass
class Answer:
    """A response that has ended."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    """One browser, or what pretends to be one."""

    port: int
    path: str = ""
    cookie: str | None = None
    host: str | None = None

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, None, **headers)

    def post(self, path: str, body: object = None, **headers: str) -> Answer:
        """As the page does it."""
        own = {"X_Stethos": "1", "Content_Type": "application/json", "Origin": f"http://{self.host or self.address}"}
        own |= {"Sec_Fetch_Site": "same-origin"}
        return self.request("POST", path, json.dumps({} if body is None else body).encode(), **{**own, **headers})

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """A request; the underscores of a header's name are dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items() if value}
            given = {"Host": self.host or self.address} | given | ({"Cookie": self.cookie} if self.cookie else {})
            connection.request(method, f"{self.path}/{path}", body, given)
            response = connection.getresponse()
            answer = Answer(response.status, {name.lower(): value for name, value in response.headers.items()}, response.read())
        finally:
            connection.close()
        if set_cookie := answer.headers.get("set-cookie"):
            self.cookie = set_cookie.partition(";")[0]
        return answer

    def login(self, password: str) -> "Client":
        answer = self.post("api/login", {"password": password})
        assert answer.status == 200, answer
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


@dataclass
class PageProcess:
    """`monitor web` with a configuration of its own, beside a service in the same folder, if there is one."""

    folder: Path
    settings: str = ""
    run: Path | None = None  # the service's runtime directory
    root: Path = ROOT  # of the code
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.config = self.folder / "web.yaml"
        self.run = self.run or self.folder / "run"
        self.folder.mkdir(exist_ok=True)
        section = f"web:\n  port: {self.port}\n  state_dir: web-state\n{self.settings}"
        self.config.write_text(f"runtime_dir: {self.run}\n{section}")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "monitor.cli.main", "--config", str(self.config), "web", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """With the allocator's settings of the unit."""
        unit = (ROOT / "systemd" / "stethos-web.service").read_text()
        allocator = dict(re.findall(r"(MALLOC_\w+)=(\d+)", unit))
        return {**os.environ, **allocator, "PYTHONPATH": str(self.root)}

    def set_password(self, password: str, option: str = "--set-password") -> "subprocess.CompletedProcess[str]":
        command = self.command(option)
        return subprocess.run(
            command, input=f"{password}\n", capture_output=True, text=True, env=self.environment, timeout=30, check=False
        )

    def start(self) -> "PageProcess":
        with (self.folder / "web.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.root, env=self.environment, stdout=log, stderr=log)
        wait_until(lambda: self.process is not None and self.process.poll() is None and self._answers(), 20, what=self.log)
        return self

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5):
                return True
        except OSError:
            return False

    def client(self) -> Client:
        return Client(self.port)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "web.log").read_text()

    def pss_mb(self) -> float:
        """Proportional set size."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(15)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_page(folder: Path, settings: str = "", *, run: Path | None = None, passwords: bool = True) -> Iterator[PageProcess]:
    """A page that answers; with both passwords unless they are not wanted."""
    page = PageProcess(folder, settings, run)
    if passwords:
        for password, option in ((ADMIN, "--set-password"), (VIEWER, "--set-viewer-password")):
            done = page.set_password(password, option)
            assert done.returncode == 0, done.stderr
    try:
        yield page.start()
    finally:
        page.kill()
