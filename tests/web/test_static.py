"""The page's own files: types, caches, and what is no file."""

from collections.abc import Iterator

import pytest

from tests.web.page_process import ROOT, Client, running_page

STATIC = ROOT / "monitor" / "web" / "static"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running_page(tmp_path_factory.mktemp("page"), passwords=False) as page:
        yield page.client()


FILES = sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.*") if path.suffix in (".js", ".css", ".svg"))


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_type_and_checked_again(client: Client, name: str) -> None:
    answer = client.get(f"static/{name}")
    assert (answer.status, answer.body) == (200, (STATIC / name).read_bytes())
    kind = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}[name.rpartition(".")[2]]
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["cache-control"] == "no-cache"
    again = client.get(f"static/{name}", If_None_Match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("view", ["", "m/fan", "m/fan/e/x", "no.such.view", "m/fan/e/x.js"])
def test_every_other_address_is_the_page(client: Client, view: str) -> None:
    answer = client.get(view)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert f'<base href="{"../" * view.count("/") or "./"}">'.encode() in answer.body


def test_a_path_with_empty_parts_is_the_page_too(client: Client) -> None:
    assert b'<base href="../../">' in client.get("m//fan").body


def test_nothing_in_the_page_comes_from_elsewhere_or_is_inline(client: Client) -> None:
    """So that the policy `default-src 'self'` holds."""
    html = client.get("").body.decode()
    assert "://" not in html
    assert "<style" not in html
    assert "<script>" not in html
    assert " style=" not in html
