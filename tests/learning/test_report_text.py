"""Numbers for people."""

import pytest

from monitor.learning.report_text import duration, per_week, significant


@pytest.mark.parametrize(
    ("number", "words"),
    [(0.0, "0"), (0.1234, "0.123"), (7.0, "7"), (71.94, "71.9"), (999.6, "1,000"), (2340.0, "2,340"), (1_234_567.0, "1,230,000")],
)
def test_numbers_are_rounded_and_have_no_exponent(number: float, words: str) -> None:
    assert significant(number) == words


def test_what_a_short_recording_shows_is_a_number_that_people_can_read() -> None:
    assert per_week(16_380.0) == "2,340 a day"
    assert per_week(1.0) == "1 a week"
    assert duration(2_000.0) == "2,000 h"
