"""The page of benchmarks: the reports of runs in a text, and one clear line where they do not fit."""

from pathlib import Path

import pytest

from benchmarks.page import page
from benchmarks.report import Report, Table
from monitor.errors import StethosError
from tests.benchmarks.test_report import BENCHMARKS

ROOT = Path(__file__).parents[2]
REPORT = Report(command="python -m benchmarks.x", version="0.2.0", tables=[Table("a", ["x"], [["1"]])], sentences=["one", "two"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A text, and the report that it shows."""
    (tmp_path / "run.json").write_text(REPORT.to_json())
    (tmp_path / "page.md.in").write_text("{{ run }}\n\n{{ run: a }}\n\n{{ run: sentences }}\n")
    return tmp_path


def test_the_page_is_current_and_names_every_benchmark() -> None:
    text = page()
    assert text == (ROOT / "docs" / "benchmarks.md").read_text()
    assert [module for module in BENCHMARKS if f"python -m {module}" not in text] == []


def test_a_page_shows_command_tables_and_sentences(folder: Path) -> None:
    shown = "```\npython -m benchmarks.x\n```\n\nVersion 0.2.0.\n\n| x |\n|---:|\n| 1 |\n\n- one\n- two\n"
    assert page(folder) == shown


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        ("{", "Expecting property name"),
        ("[]", "pop expected at most 1 argument"),
        ("{}", "missing 1 required keyword-only argument: 'command'"),
        ('{"command": "x", "commit": "y"}', "unexpected keyword argument 'commit'"),
        ('{"command": "x", "tables": [{"title": "a"}]}', "missing 2 required positional arguments: 'header' and 'rows'"),
        ('{"command": "x", "tables": [{"title": "a", "header": ["x"], "rows": 1}]}', "'int' object is not iterable"),
        (
            '{"command": "x", "tables": [{"title": "a", "header": [], "rows": []}, {"title": "a", "header": [], "rows": []}]}',
            "same title",
        ),
        (REPORT.to_json().replace('["1"]', '["1", "2"]'), "row 1 of table a must have 1 cells, got 2"),
    ],
)
def test_a_damaged_report_is_named(folder: Path, damaged: str, why: str) -> None:
    (folder / "run.json").write_text(damaged)
    with pytest.raises(StethosError) as raised:
        page(folder)
    assert str(raised.value).startswith("run.json is not the report of a benchmark: ")
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_table_that_the_text_does_not_show_is_named(folder: Path) -> None:
    (folder / "page.md.in").write_text("{{ run }} {{ run: sentences }}")
    with pytest.raises(StethosError, match=r"^page\.md\.in must show \{\{ run: a \}\} of run\.json$"):
        page(folder)


def test_a_placeholder_without_a_table_is_named(folder: Path) -> None:
    (folder / "run.json").unlink()
    with pytest.raises(StethosError, match=r"^no report has what page\.md\.in shows as \{\{ run \}\}$"):
        page(folder)
