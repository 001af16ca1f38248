"""What is published about learning, and what is cleared."""

from pathlib import Path

from monitor.bundle import load_bundle
from monitor.daemon.bundles.learning_reports import LearningReports
from monitor.mqtt.messages import LearningMessage


def test_the_message_of_an_earlier_run_is_cleared_for_a_machine_that_does_not_run_now(demo_bundle: Path) -> None:
    published: list[tuple[str, LearningMessage | None]] = []
    reports = LearningReports(lambda machine, message: published.append((machine, message)), lambda *_: None)
    bundles = {"fan": load_bundle(demo_bundle)}
    reports.apply_config(["fan", "pump"], bundles, now=5.0)
    assert published == [("fan", None), ("pump", None)]
    reports.apply_config(["fan", "pump"], bundles, now=6.0)
    assert len(published) == 2
