"""The report: an evaluation's numbers, figures and page, as a folder; and two of them side by side."""

from train.report.compare import compare
from train.report.write import write_report

__all__ = ["compare", "write_report"]
