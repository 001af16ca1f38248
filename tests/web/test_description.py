"""The interface does what its description says: schemathesis against the real page with the real service behind it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.daemon.deaf_fan import running_service
from tests.waiting import wait_until
from tests.web.page_process import ADMIN, Client, PageProcess, running_page

N_EXAMPLES = 30
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection"
)
ENDLESS = "live.pcm|stream"  # and what would end the session or the attempts
EXCLUDED = f"{ENDLESS}|login|logout|metrics"


@dataclass
class Described:
    """A page with a service that has one event, and its description."""

    page: PageProcess
    admin: Client
    event: str

    def description(self) -> dict[str, Any]:
        """As served, with values that exist, and without the session, which a header supplies."""
        found: dict[str, Any] = self.admin.get("api/openapi.json").json
        del found["security"], found["components"]["securitySchemes"]
        known = {"machine": ["fan", "pump"], "event": [self.event, "nothing", "00000000-0000-0000-0000-000000000000"]}
        for methods in found["paths"].values():
            for operation in methods.values():
                for parameter in operation.get("parameters", ()):
                    if parameter["in"] == "path":
                        parameter["schema"] = {"enum": known[parameter["name"]]}
        return found


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    folder = tmp_path_factory.mktemp("described")
    bundle, sound = ROOT / "models" / "demo-fan", ROOT / "demo" / "fan-normal.flac"
    with (
        running_service(folder, bundle, sound) as service,
        running_page(folder / "page", run=service.daemon.folder / "run") as page,
    ):
        service.configure("fan")
        service.daemon.start().ready()
        admin = page.client().login(ADMIN)
        wait_until(lambda: admin.get("api/machines").status == 200 and admin.get("api/machines/fan").json["event"])
        yield Described(page, admin, admin.get("api/machines/fan").json["event"]["id"])


def test_schemathesis_finds_nothing(described: Described, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(described.description()))
    admin = described.admin
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", "openapi.json", "--url", f"http://{admin.address}"]
    command += [
        "-H",
        f"Cookie: {admin.cookie}",
        "--checks",
        CHECKS,
        "--max-examples",
        str(N_EXAMPLES),
        "--no-color",
        "--seed",
        "1",
    ]
    command += ["--phases", "examples,coverage,fuzzing", "--exclude-path-regex", EXCLUDED, "--request-timeout", "60"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "Traceback" not in described.page.log


def test_every_get_answers_as_described(described: Described) -> None:
    for path, methods in described.description()["paths"].items():
        if "get" in methods and not any(part in path for part in (*ENDLESS.split("|"), "clip.flac", "metrics")):
            answer = described.admin.get(path.lstrip("/").format(machine="fan", event=described.event))
            assert answer.status == 200, (path, answer.body)
            (media_type,) = methods["get"]["responses"]["200"]["content"]
            assert answer.headers["content-type"] == media_type
