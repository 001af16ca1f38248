import logging

import pytest

from monitor.log_limit import MAX_KINDS, LogLimit, of_kind


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Lines(logging.Handler):
    """Collects the lines that pass the limit."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(LogLimit(now=clock))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> Lines:
    return Lines(clock)


@pytest.fixture
def log(lines: Lines) -> logging.Logger:
    log = logging.Logger("test")
    log.addHandler(lines)
    return log


def test_a_line_that_repeats_passes_once_a_minute(clock: Clock, lines: Lines, log: logging.Logger) -> None:
    for second in range(3_600):
        clock.now = float(second)
        log.warning("mqtt: %s closed the connection", "broker")
    assert len(lines.lines) == 60
    assert lines.lines[:2] == [
        "mqtt: broker closed the connection",
        "mqtt: broker closed the connection (59 similar lines suppressed)",
    ]


def test_a_flood_of_different_lines_of_one_kind_is_limited(clock: Clock, lines: Lines, log: logging.Logger) -> None:
    for tenth in range(36_000):
        clock.now = tenth / 10
        log.warning("unknown command %s", tenth)
    assert len(lines.lines) == 10 + 59
    assert sum(int(line.split("(")[1].split()[0]) for line in lines.lines if "(" in line) >= 36_000 - 69 - 600


def test_of_a_kind_one_line_a_minute_passes_whatever_its_text(clock: Clock, lines: Lines, log: logging.Logger) -> None:
    for tenth in range(36_000):
        clock.now = tenth / 10
        log.warning("mqtt: %s", tenth, extra=of_kind("broker"))
        log.warning(f"mqtt: {tenth}", extra=of_kind("broker"))
        if tenth % 600 == 0:
            log.warning("another %s", tenth, extra=of_kind("another"))
    assert len(lines.lines) == 60 + 60
    assert lines.lines[2].endswith("(1199 similar lines suppressed)")


def test_lines_of_several_machines_pass_together(lines: Lines, log: logging.Logger) -> None:
    for machine in range(8):
        log.info("%s: ready", machine)
        log.info("%s: learning", machine)
    assert len(lines.lines) == 16


def test_a_flood_of_one_kind_does_not_suppress_another_kind(lines: Lines, log: logging.Logger) -> None:
    for number in range(1_000):
        log.info("flood %s", number)
    log.error("outbox: cannot write: 100 % full")
    assert lines.lines[-1] == "outbox: cannot write: 100 % full"


def test_memory_is_bounded(clock: Clock, lines: Lines, log: logging.Logger) -> None:
    limit = next(one for one in lines.filters if isinstance(one, LogLimit))
    for number in range(3 * MAX_KINDS):
        clock.now += 60.0
        log.warning("text %s", number)
    assert len(lines.lines) == 3 * MAX_KINDS
    assert len(limit._kinds) == MAX_KINDS


def test_a_text_that_looks_like_a_format_is_kept(clock: Clock, lines: Lines, log: logging.Logger) -> None:
    for _ in range(2):
        log.warning("payload %s", "%d {0} %")
    clock.now = 60.0
    log.warning("payload %s", "%d {0} %")
    assert lines.lines[-1] == "payload %d {0} % (1 similar line suppressed)"
