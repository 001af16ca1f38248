"""The interface does what its description says: schemathesis against the real page with the real service behind it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon.deaf_fan import running_service
from tests.waiting import wait_until
from tests.web.page_process import ADMIN, Client, PageProcess, running_page

N_EXAMPLES = 40
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PageProcess, Client]]:
    from tests.conftest import ROOT

    folder = tmp_path_factory.mktemp("described")
    bundle, sound = ROOT / "models" / "demo-fan", ROOT / "demo" / "fan-normal.flac"
    with (
        running_service(folder, bundle, sound) as service,
        running_page(folder / "page", run=service.daemon.folder / "run") as page,
    ):
        service.configure("fan")
        service.daemon.start().ready()
        admin = page.client().login(ADMIN)
        wait_until(lambda: admin.get("api/machines").status == 200)
        yield page, admin


def test_schemathesis_finds_nothing(page: tuple[PageProcess, Client], tmp_path: Path) -> None:
    process, admin = page
    (tmp_path / "schemathesis.toml").write_text("")
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"http://{admin.address}/api/openapi.json"]
    command += ["--url", f"http://{admin.address}", "-H", f"Cookie: {admin.cookie}", "--checks", CHECKS]
    command += ["--max-examples", str(N_EXAMPLES), "--phases", "examples,coverage,fuzzing", "--no-color", "--seed", "1"]
    command += ["--exclude-path-regex", "live.pcm|stream|logout|login|metrics", "--request-timeout", "30"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "Traceback" not in process.log


def test_its_description_names_every_state_of_the_service(page: tuple[PageProcess, Client]) -> None:
    _, admin = page
    described = admin.get("api/openapi.json").json
    assert json.dumps(described["components"]["schemas"]["StateMessage"]["properties"]["state"]).count("unknown") == 1
