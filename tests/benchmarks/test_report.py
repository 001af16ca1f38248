"""What benchmarks publish: Markdown as soon as it is known, and the same as JSON."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks import length, quality
from benchmarks.report import Report, Table, publish
from benchmarks.sounds.synthetic_machines import FAULTS_OF, SyntheticJob, SyntheticResult
from benchmarks.speed import fleet
from monitor.errors import StethosError
from train.fleet.jobs import STEPS

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if "publish(" in path.read_text() and path.name != "report.py"
)


HELP_OF_ALL = """
import contextlib, runpy, sys
for module in sys.argv[1:]:
    sys.argv = [module, "--help"]
    with contextlib.suppress(SystemExit):
        runpy.run_module(module, run_name="__main__")
"""


def run(*arguments: str) -> str:
    """What Python prints."""
    return subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    table = Table(
        "a", ["name", "AUC", "s", "share", "note"], [["fan", ".899 ±.001", "-", "-0.5 %", "kept"], ["pump", "", "7", 1, ""]]
    )
    assert list(table.lines()) == [
        "| name | AUC | s | share | note |",
        "|---|---:|---:|---:|---|",
        "| fan | .899 ±.001 | - | -0.5 % | kept |",
        "| pump | | 7 | 1 | |",
    ]


def test_a_cell_can_hold_bars_and_line_breaks() -> None:
    assert list(Table("a", ["x"], [["a|b\nc"]]).lines())[2] == r"| a\|b c |"


def test_a_table_without_rows_has_a_header() -> None:
    assert list(Table("a", ["x", "y"], []).lines()) == ["| x | y |", "|---|---|"]


def test_a_row_must_fill_the_table() -> None:
    with pytest.raises(StethosError, match="row 2 of table a must have 2 cells, got 1"):
        list(Table("a", ["x", "y"], [["1", "2"], ["3"]]).lines())


def test_each_row_is_printed_before_the_next_one_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    def rows() -> Iterator[list[object]]:
        yield ["first"]
        assert capsys.readouterr().out.endswith("| first |\n")
        yield ["second"]

    publish([Table("a", ["x"], rows()), "end"], None)
    assert capsys.readouterr().out == "| second |\n\nend\n\n"


def test_an_interrupted_run_keeps_what_is_complete(tmp_path: Path) -> None:
    def parts() -> Iterator[Table | str]:
        yield Table("a", ["x"], [[1]])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(parts(), tmp_path / "run.json")
    assert Report.read(tmp_path / "run.json").tables == [Table("a", ["x"], [["1"]])]


def test_a_benchmark_writes_what_it_prints(tmp_path: Path) -> None:
    printed = run("-m", "benchmarks.speed.outbox", "2", "--json", str(tmp_path / "outbox.json"))
    report = Report.read(tmp_path / "outbox.json")
    assert report.command == "python -m benchmarks.speed.outbox 2"
    assert report.version and report.date and report.computer
    assert printed == f"latency:\n\n{chr(10).join(report.tables[0].lines())}\n\n"
    assert report.to_json() == (tmp_path / "outbox.json").read_text()
    assert '   "header": ["2 events, ms", "median", "p99", "longest"],\n' in report.to_json()


def test_every_benchmark_writes_json() -> None:
    usages = run("-c", HELP_OF_ALL, *BENCHMARKS).split("usage: ")[1:]
    assert [module for module, usage in zip(BENCHMARKS, usages, strict=True) if "--json FILE" not in usage] == []


def test_quality_shows_every_component_and_the_gains() -> None:
    def scores(value: float) -> dict[float, dict[quality.Column, np.ndarray]]:
        columns = {(kind, name): np.array([value, 1.0]) for kind in ("float", "int8") for name in ("fused", "spectrum")}
        return dict.fromkeys((0.0, 6.0), columns)

    results = [quality.Result(quality.Job("default", "01", 0, seed), scores(0.0), scores(2.0 * seed)) for seed in (0, 1)]
    cars, by_car = quality.cars_tables(["default"], ["01"], results, (0.0, 6.0))
    assert list(cars.header)[1:] == ["AUC int8", "pAUC int8", "AUC float", "pAUC float", "AUC, 6 dB louder"]
    assert [row[0] for row in cars.rows] == ["`default`, fused", "`default`, spectrum only"]
    assert next(iter(by_car.rows)) == ["`default`, fused", ".688 ±.265"]
    assert next(iter(quality.slide_rail_table(["default"], results).rows))[1:] == ["50 (6-94)", "50 (6-94)"]
    results_ = [
        SyntheticResult(SyntheticJob(machine, 0), dict.fromkeys(faults, -30.0), {fault: {"`default`": 0.75} for fault in faults})
        for machine, faults in FAULTS_OF.items()
    ]
    assert list(quality.synthetic_table(results_).rows) == [["`default`", *[".750"] * 9], ["severity, dB", *["-30.0"] * 8, ""]]


def test_length_shows_a_row_per_length() -> None:
    aucs = {("spectrum", 1): (0.8, 0.7, 0.1), ("fused", 1): (0.9, 0.8, 0.2), ("fused", 25): (1.0, 0.9, 0.0)}
    result = length.Result(length.Job("01", 0, 0), [{**aucs, ("spectrum", 25): (0.9, 0.9, 0.1)}])
    assert [row[:5] for row in length.table("toy cars", [result]).rows] == [
        ["0.8 s", "0.800", "0.900", "0.800", "0.200"],
        ["20.0 s", "0.900", "1.000", "0.900", "0.000"],
    ]


def test_fleet_shows_runs_steps_and_a_simulation() -> None:
    lines: list[dict[str, object]] = [
        {"machine": "fan", "step": step, "status": "done", "seconds": 36.0, "cpu_s": 1.0, "peak_mb": 50} for step in STEPS
    ]
    run_ = fleet.Measured(100.0, 50.0, lines, 300.0, 100.0)
    runs, steps = fleet.run_tables({1: run_, 2: run_})
    assert next(iter(runs.rows)) == [1, 4, 4, "100.0", "50.0", "1.00", "300", "100"]
    assert next(iter(steps.rows)) == [STEPS[0], 1, "36.00", "1.00", "50"]
    simulation, sentence = fleet.simulate(run_, 0.0)
    assert isinstance(simulation, Table)
    assert next(iter(simulation.rows)) == [1, "20.00", "100.0%"]
    assert str(sentence).endswith("20.00 worker-hours")
