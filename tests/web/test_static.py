"""The page's own files: types, caches, and what is no file."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.page_process import ROOT, STATIC, Client, PageProcess, need_page, running_page

MAX_PAGE, MAX_SENT = 120_000, 55_000
MAX_FLEET = 20_000  # the views of many nodes, which the page of one does not load


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    need_page()
    with running_page(tmp_path_factory.mktemp("page"), passwords=False) as page:
        yield page.client()


def test_every_file_is_served_with_its_type_and_checked_again(client: Client) -> None:
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    files = [path for path in STATIC.iterdir() if path.suffix in kinds]
    assert {"app.js", "icon.svg", "preact.js", "style.css", "uplot.js"} < {path.name for path in files}
    for path in files:
        answer = client.get(f"static/{path.name}")
        assert (answer.status, answer.body) == (200, path.read_bytes())
        assert answer.headers["content-type"].startswith(kinds[path.suffix])
        assert answer.headers["cache-control"] == "no-cache"
        again = client.get(f"static/{path.name}", If_None_Match=answer.headers["etag"])
        assert (again.status, again.body) == (304, b"")


def test_the_page_is_small(client: Client) -> None:
    """Everything that a browser can load, as files and as sent."""
    every = ["", *(f"static/{path.name}" for path in STATIC.iterdir() if path.suffix in (".js", ".css", ".svg"))]
    paths = [path for path in every if not path.startswith("static/fleet")]
    assert sum(len(client.get(path).body) for path in {*every} - {*paths}) <= MAX_FLEET
    assert sum(len(client.get(path).body) for path in paths) <= MAX_PAGE
    assert sum(len(client.get(path, Accept_Encoding="gzip").body) for path in paths) <= MAX_SENT
    others = {path.name for path in STATIC.iterdir()} - {path.removeprefix("static/") for path in every}
    assert others == {"LICENSES", "index.html", "stamp"}


@pytest.mark.parametrize("view", ["", "m/fan", "m/fan/e/x", "no.such.view", "m/fan/e/x.js"])
def test_every_other_address_is_the_page(client: Client, view: str) -> None:
    answer = client.get(view)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f'<base href="{"../" * view.count("/") or "./"}">'.encode() in answer.body


def test_a_checkout_without_the_page_says_what_to_run(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "monitor", tmp_path / "monitor", ignore=shutil.ignore_patterns("static", "__pycache__"))
    page = PageProcess(tmp_path / "page", root=tmp_path)
    try:
        answer = page.start().client().get("m/fan")
    finally:
        page.kill()
    reason = "the page's files are missing; a checkout needs: scripts/make-page"
    assert (answer.status, answer.json["detail"]) == (503, reason)
    assert reason in page.log


def test_a_path_with_empty_parts_is_the_page_too(client: Client) -> None:
    assert b'<base href="../../">' in client.get("m//fan").body


def test_nothing_in_the_page_comes_from_elsewhere_or_is_inline(client: Client) -> None:
    """So that the policy `default-src 'self'` holds."""
    html = client.get("").body.decode()
    assert "://" not in html
    assert "<style" not in html
    assert "<script>" not in html
    assert " style=" not in html
