"""Run the real `monitor` command as a user would."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "event_type" in line]

    @property
    def files(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("type") == "file"]

    @property
    def segments(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("type") == "segment"]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.startswith(("monitor: error:", "usage:"))]


def monitor(*arguments: str | Path, python: str = sys.executable, environment: dict[str, str] | None = None) -> Ran:
    done = subprocess.run(
        [python, "-m", "monitor.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)
