"""Write docs/benchmarks.md from the files in docs/benchmarks/: the text in page.md.in, and the reports of the runs that it shows.

    python -m benchmarks.page

A report is written by `--json docs/benchmarks/NAME.json` of a benchmark. In the text, `{{ NAME }}` stands for the command of
a report with version, date and computer, `{{ NAME: TITLE }}` for one of its tables, and `{{ NAME: sentences }}` for its
sentences. The text must show all of them.
"""

import argparse
import re
import sys
from pathlib import Path

from benchmarks.report import Report
from monitor.errors import StethosError

DOCS = Path(__file__).parents[1] / "docs"
TEXT = "page.md.in"
PLACEHOLDER = re.compile(r"\{\{ (.+?) \}\}")


def page(folder: Path = DOCS / "benchmarks") -> str:
    """The content of the page."""
    reports = {path.stem: Report.read(path) for path in sorted(folder.glob("*.json"))}
    parts = {key: text for name, report in reports.items() for key, text in _parts(name, report).items()}
    text = (folder / TEXT).read_text()
    placeholders = set(PLACEHOLDER.findall(text))
    if unknown := sorted(placeholders - parts.keys()):
        raise StethosError(f"no report has what {TEXT} shows as {{{{ {unknown[0]} }}}}")
    if unused := sorted(parts.keys() - placeholders):
        raise StethosError(f"{TEXT} must show {{{{ {unused[0]} }}}} of {unused[0].partition(':')[0]}.json")
    return PLACEHOLDER.sub(lambda found: parts[found[1]], text)


def _parts(name: str, report: Report) -> dict[str, str]:
    """The Markdown for each placeholder of a report."""
    run = ", ".join(filter(None, (report.version and f"Version {report.version}", report.date, report.computer)))
    parts = {name: f"```\n{report.command}\n```\n\n{run}.".removesuffix("\n\n.")}
    parts |= {f"{name}: {table.title}": "\n".join(table.lines()) for table in report.tables}
    if report.sentences:
        parts[f"{name}: sentences"] = "\n".join(f"- {sentence}" for sentence in report.sentences)
    return parts


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        (DOCS / "benchmarks.md").write_text(page())
    except StethosError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
