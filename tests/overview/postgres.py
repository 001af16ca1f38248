"""A PostgreSQL server of Debian's on a loopback port, as an ordinary user, in a folder of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from tests.broker import free_port
from tests.conftest import need
from tests.waiting import wait_until

BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql/none/bin"))
PASSWORD = "colon:and\\backslash"


@dataclass
class Postgres:
    """A server that can be stopped, frozen and started again on the same port."""

    folder: Path
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def make(self) -> "Postgres":
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "password").chmod(0o644)
        self._run("initdb", "-D", self._data, "-U", "stethos", "--auth=scram-sha-256", f"--pwfile={self.folder}/password", "-N")
        return self

    def start(self) -> "Postgres":
        options = ("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}")
        command = [str(BIN / "postgres"), "-D", self._data, "-p", str(self.port), *options]
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", user=self._user, group=self._user)
        ready = [str(BIN / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, what="PostgreSQL")
        return self

    def stop(self) -> None:
        """At once, its connections are closed."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.signal(signal.SIGKILL)
                self._process.wait(10)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """To every process of the server."""
        assert self._process is not None
        leader = self._process.pid
        for pid in [leader, *map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())]:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, number)

    def query(self, text: str) -> str:
        """What psql prints."""
        command = [str(BIN / "psql"), "-h", "127.0.0.1", "-p", str(self.port), "-U", "stethos", "-At", "-c", text, "postgres"]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PGPASSWORD": PASSWORD}
        ).stdout.strip()

    @property
    def url(self) -> str:
        return f"postgresql://stethos@127.0.0.1:{self.port}/postgres"

    def pass_file(self, folder: Path) -> Path:
        """PGPASSFILE."""
        path = folder / "pgpass"
        escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
        path.write_text(f"127.0.0.1:{self.port}:postgres:stethos:{escaped}\n")
        path.chmod(0o600)
        return path

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def _user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None

    def _run(self, program: str, *words: str) -> None:
        command = [str(BIN / program), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", user=self._user, group=self._user)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    need((BIN / "postgres").exists(), "Debian's postgresql")
    folder = Path(mkdtemp(prefix="stethos-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    server = Postgres(folder).make().start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
        (folder.parent / f"{folder.name}.log").unlink(missing_ok=True)
