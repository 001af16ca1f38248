"""Delivery by real child processes to real receivers that are away, refuse, or come back, and after kills."""

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from email.message import Message as Mail
from functools import partial
from pathlib import Path

import psutil
import pytest

from monitor.config import NotifyConfig
from monitor.notify.child import run_jobs
from monitor.notify.job import check_job, make_job
from monitor.notify.queue import NotifyQueue
from monitor.notify.send import without_secrets
from monitor.notify.worker import MAX_INCOMING, NotifyWorker
from tests.conftest import ROOT
from tests.notify.receivers import MailServer, Webhook, picture_of
from tests.notify.test_queue import message
from tests.waiting import wait_until

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300
SECRET = "s3cr3t-t0ken"


def target(url: str, **settings: object) -> NotifyConfig:
    return NotifyConfig.model_validate({"url": url, **settings})


def around_now() -> str:
    """Quiet hours in which this test runs."""
    begin, end = (datetime.now() + timedelta(hours=hours) for hours in (-2, 2))
    return f"{begin:%H:%M}-{end:%H:%M}"


@contextmanager
def running(path: Path, **targets: NotifyConfig) -> Iterator[NotifyWorker]:
    worker = NotifyWorker(NotifyQueue(path / "queue.sqlite"), retry_s=0.2, max_retry_s=0.4)
    worker.configure(targets)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(20.0)
        assert not worker.is_alive
        assert worker.n_failures == 0


def test_a_webhook_receives_text_severity_and_picture(tmp_path: Path) -> None:
    with Webhook() as webhook, running(tmp_path, shift=target(webhook.url)) as worker:
        worker.put(message(1), waits_for_picture=True)
        worker.attach("event-1", PNG)
        worker.put(message(2, "warning"), waits_for_picture=False)
        wait_until(lambda: len(webhook.received) == 2, what="both messages")
        wait_until(lambda: worker.n_queued == 0, what="an empty queue")
    first, second = webhook.received
    assert (first["title"], first["message"], first["type"]) == ("Title 1", "x" * 10, "failure")
    assert picture_of(first) == PNG
    assert (second["title"], second["type"], second["attachments"]) == ("Title 2", "warning", [])


def test_a_mail_has_the_title_as_subject_and_the_picture_attached(tmp_path: Path) -> None:
    with MailServer() as server, running(tmp_path, shift=target(server.url)) as worker:
        worker.put(message(1), waits_for_picture=True)
        worker.attach("event-1", PNG)
        wait_until(lambda: server.received, what="the mail")
    (mail,) = server.received
    parts: list[Mail] = list(mail.walk())
    assert (mail["Subject"], "shift@example.com" in mail["To"]) == ("Title 1", True)
    assert any(b"x" * 10 in part.get_payload(decode=True) for part in parts if part.get_content_type() == "text/plain")
    assert [part.get_payload(decode=True) for part in parts if part.get_content_type() == "image/png"] == [PNG]


def test_a_receiver_that_is_away_gets_everything_in_order_when_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    away, well = Webhook(), Webhook()
    with well, running(tmp_path, away=target(away.url), well=target(well.url)) as worker:
        for number in range(3):
            worker.put(message(number, target="away"), waits_for_picture=False)
        worker.put(message(9, target="well"), waits_for_picture=False)
        wait_until(lambda: worker.n_failed >= 2 and well.titles == ["Title 9"], what="failures, and the other target's message")
        assert worker.n_queued == 3
        away.status = 500
        with away:
            wait_until(lambda: away.n_requests, what="a refusal")
            away.status = 200
            wait_until(lambda: len(away.received) == 3, within_s=90.0, what="all messages")
            wait_until(lambda: worker.n_queued == 0, what="an empty queue")
    assert away.titles == ["Title 0", "Title 1", "Title 2"]
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("monitor.notify")]
    assert len(lines) == 2
    assert lines[0].startswith("notify: away: cannot send, will be tried again: A Connection error occurred")
    assert lines[1] == "notify: away: sent again"


def test_after_three_failures_a_message_goes_without_its_picture(tmp_path: Path) -> None:
    with Webhook(status=413) as webhook, running(tmp_path, shift=target(webhook.url)) as worker:
        worker.put(message(1), waits_for_picture=True)
        worker.attach("event-1", PNG)
        wait_until(lambda: worker.n_failed >= 3, what="three failures")
        webhook.status = 200
        wait_until(lambda: webhook.received, what="the message")
    assert webhook.received[0]["attachments"] == []


def test_quiet_hours_hold_warnings_until_they_end_and_let_alarms_pass(tmp_path: Path) -> None:
    with Webhook() as webhook, running(tmp_path, shift=target(webhook.url, quiet=around_now())) as worker:
        worker.put(message(1, "warning"), waits_for_picture=False)
        worker.put(message(2), waits_for_picture=False)
        wait_until(lambda: webhook.titles == ["Title 2"] and worker.n_queued == 1, what="the alarm alone")
        worker.configure({"shift": target(webhook.url, quiet=around_now(), quiet_alarms="hold")})
        worker.put(message(3), waits_for_picture=False)
        wait_until(lambda: worker.n_queued == 2 and worker.n_incoming == 0, what="both held")
        worker.configure({"shift": target(webhook.url)})
        wait_until(lambda: len(webhook.received) == 3, what="the held messages")
    assert webhook.titles == ["Title 2", "Title 1", "Title 3"]


def test_messages_to_a_target_that_was_removed_are_dropped_and_counted(tmp_path: Path) -> None:
    with running(tmp_path, shift=target("json://127.0.0.1:1/hook")) as worker:
        worker.put(message(1), waits_for_picture=False)
        wait_until(lambda: worker.n_failed, what="a failure")
        worker.configure({})
        wait_until(lambda: worker.n_dropped == 1 and worker.n_queued == 0, what="the drop")


def test_more_messages_than_can_be_stored_at_once_are_dropped_and_counted(tmp_path: Path) -> None:
    worker = NotifyWorker(NotifyQueue(tmp_path / "queue.sqlite"))
    for number in range(MAX_INCOMING + 5):
        worker.put(message(number), waits_for_picture=False)
    assert (worker.n_queued, worker.n_dropped) == (MAX_INCOMING, 5)


def test_a_missing_secret_is_a_failure_like_any_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url_file = tmp_path / "url"
    with Webhook() as webhook, running(tmp_path, shift=NotifyConfig(url_file=url_file)) as worker:
        worker.put(message(1), waits_for_picture=False)
        wait_until(lambda: worker.n_failed, what="a failure")
        assert f"notify.shift.url_file: {url_file} cannot be read: No such file or directory" in caplog.text
        url_file.write_text(webhook.url + "\n")
        wait_until(lambda: webhook.received, what="the message")


def started(path: Path, url: str, first: int, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.notify.crashing_sender", str(path), url, str(first), str(count)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "stored\n"
    return process


def test_nothing_is_lost_by_kills_and_at_most_the_message_in_flight_arrives_twice(tmp_path: Path) -> None:
    webhook = Webhook()
    path = tmp_path / "queue.sqlite"
    process = started(path, webhook.url, 0, 3)
    process.kill()  # the receiver is away
    process.wait()
    n_kills = 1
    with webhook:
        for first in (3, 4):
            webhook.gate.clear()
            before = webhook.n_requests
            process = started(path, webhook.url, first, 1)
            wait_until(partial(webhook.has_more_than, before), what="a message in flight")
            process.kill()
            process.wait()
            n_kills += 1
            webhook.gate.set()
        process = started(path, webhook.url, 5, 1)
        wait_until(lambda: len(set(webhook.titles)) == 6, within_s=60.0, what="every message")
        process.kill()
        process.wait()
    counts = Counter(webhook.titles)
    assert set(counts) == {f"Title {number}" for number in range(6)}
    assert sum(counts.values()) - len(counts) <= n_kills
    assert max(counts.values()) <= 1 + n_kills


def test_a_stop_during_a_sending_keeps_the_message_and_ends_the_child(tmp_path: Path) -> None:
    with Webhook() as webhook:
        webhook.gate.clear()
        with running(tmp_path, shift=target(webhook.url)) as worker:
            worker.put(message(1), waits_for_picture=False)
            wait_until(lambda: webhook.n_requests, what="a message in flight")
        assert not psutil.Process().children()
    queue = NotifyQueue(tmp_path / "queue.sqlite")
    queue.check_disk()
    assert queue.n == 1


def test_the_child_is_limited_and_shows_no_secret_to_other_processes(tmp_path: Path) -> None:
    with Webhook() as webhook:
        (tmp_path / "url").write_text(f"json://shift:{SECRET}@127.0.0.1:{webhook.port}/hook")
        webhook.gate.clear()
        with running(tmp_path, shift=NotifyConfig(url_file=tmp_path / "url")) as worker:
            worker.put(message(1), waits_for_picture=False)
            worker.put(message(2), waits_for_picture=False)
            wait_until(lambda: webhook.n_requests, what="a message in flight")
            (child,) = psutil.Process().children()  # one at a time
            assert child.rlimit(psutil.RLIMIT_AS)[0] < 2_000_000_000
            assert Path(f"/proc/{child.pid}/oom_score_adj").read_text() == "500\n"
            assert SECRET not in " ".join([*child.cmdline(), *child.environ().values()])
            webhook.gate.set()
            wait_until(lambda: len(webhook.received) == 2, what="both messages")


def test_the_daemons_side_never_imports_apprise() -> None:
    code = "import sys; import monitor.daemon.daemon, monitor.cli.checking.notify_check; print('apprise' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nosuch://host/x", "Unparseable URL nosuch://<hidden>"),
        ("tgram://bad", "Unparseable Telegram URL tgram://<hidden>"),
        ("json://127.0.0.1:1/hook", None),
    ],
)
def test_a_url_is_checked_without_sending(url: str, reason: str | None) -> None:
    error = run_jobs(check_job(url))[0].error
    assert error == reason


def test_no_part_of_a_secret_url_is_in_a_reason() -> None:
    for url in (f"json://karl:{SECRET}@127.0.0.1:1/hooks/{SECRET}?+X-Token={SECRET}", f"slack://{SECRET}AAA/BBBBBBBBB/{SECRET}"):
        error = run_jobs(make_job(url, message(1), None))[0].error
        assert error is not None
        assert SECRET not in error
        assert "karl" not in error


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("no route to https://api/bot123:ABCD/x", "tgram://123:ABCD/x", "no route to https://<hidden>"),
        ("host.example refused topic-x", "ntfy://host.example/topic-x", "host.example refused <hidden>"),
        ("PASSWORD%21 and password!", "mailto://u:password%21@host", "<hidden> and <hidden>"),
        ("a\nb\x1b[0m" + "c" * 300, "json://h", "a b [0m" + "c" * 192 + "…"),
    ],
)
def test_reasons_are_one_short_line_without_secrets(text: str, url: str, shown: str) -> None:
    assert without_secrets(text, url, shown=check_job(url)["shown"]) == shown


def test_a_child_that_does_not_end_is_given_up() -> None:
    with Webhook() as webhook:
        webhook.gate.clear()
        assert run_jobs(make_job(webhook.url, message(1), None), timeout_s=3.0)[0].error == "no answer within 3 s"
    assert not psutil.Process().children()
