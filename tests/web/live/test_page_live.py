"""The real page in front of the real service with a virtual microphone: what browsers see, and what they do."""

import base64
import http.client
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from jsonschema import Draft202012Validator

from tests.daemon.deaf_fan import Service, running_service
from tests.waiting import wait_until
from tests.web.event_source import EventSource
from tests.web.page_process import ADMIN, ROOT, VIEWER, Client, PageProcess, running_page


@dataclass
class Both:
    """A service with an endless anomaly, and its page."""

    service: Service
    page: PageProcess

    @cached_property
    def admin(self) -> Client:
        return self.page.client().login(ADMIN)


@pytest.fixture
def both(tmp_path: Path, demo_bundle: Path, demo_normal: Path) -> Iterator[Both]:
    """Both run; the service has the machine `fan`."""
    with (
        running_service(tmp_path, demo_bundle, demo_normal) as service,
        running_page(tmp_path / "page", run=service.daemon.folder / "run") as page,
    ):
        service.configure("fan")
        service.daemon.start().ready()
        both = Both(service, page)
        wait_until(lambda: both.admin.get("api/machines").status == 200)
        yield both


def test_browsers_see_states_events_and_files_and_people_deal_with_an_anomaly(both: Both) -> None:
    admin = both.admin
    with EventSource(admin, "?machine=fan") as source:
        event = source.until("event", event_type="start").data["data"]
        source.until("state", state="anomaly")
        source.until("frame")
        assert [one.kind for one in source.events[:2]] == ["service", "node"]
        assert source.events[0].data == {"running": True, "reason": None, "resumed": False}
        assert not any(one.id for one in source.of("frame"))

        answer = admin.post("api/machines/fan/ack", {"request": "from the page"})
        assert (answer.status, answer.json["accepted"], answer.json["request"]) == (200, True, "from the page")
        source.until("state", acknowledged=True)
        source.until("response", command="ack")
        source.until("event", id=event["id"], has_picture=True)
    machines = admin.get("api/machines").json
    validate("Machine", machines["machines"][0])
    (machine,) = machines["machines"]
    assert (machines["node"], machine["id"], machine["event"]["id"], len(machine["strip"])) == ("pi", "fan", event["id"], 96)
    validate("Node", admin.get("api/node").json)
    assert both.service.answers()[-1]["request"] == "from the page"
    log = (both.service.daemon.folder / "state" / "commands.log").read_text()
    assert '"by": "web:admin"' in log

    metrics = admin.get("metrics", Authorization=f"Basic {base64.b64encode(f'prometheus:{VIEWER}'.encode()).decode()}")
    assert metrics.headers["content-type"].startswith("application/openmetrics-text")
    lines = metrics.body.decode().splitlines()
    assert {"stethos_up 1.0", 'stethos_machine_state{machine="fan",state="anomaly"} 1.0'} <= set(lines)
    assert 'stethos_events_total{machine="fan",severity="alarm"} 1.0' in lines
    points = admin.get("api/machines/fan/history").json["points"]
    assert points and {"t", "n", "ratio", "rms_dbfs", "states"} <= points[-1].keys()
    assert [one["id"] for one in admin.get("api/machines/fan/events").json["events"]] == [event["id"]]

    picture = admin.get(f"api/events/{event['id']}/picture.png")
    assert (picture.status, picture.headers["content-type"], picture.body[:4]) == (200, "image/png", b"\x89PNG")
    assert admin.get(f"api/events/{event['id']}/picture.png", If_None_Match=picture.headers["etag"]).status == 304
    assert admin.post("api/machines/fan/disable").status == 200
    with EventSource(admin) as source:
        wait_until(lambda: admin.get(f"api/events/{event['id']}/clip.flac").status == 200)
    clip = admin.get(f"api/events/{event['id']}/clip.flac")
    assert soundfile.info(io.BytesIO(clip.body)).samplerate == 16_000
    for asked, first, stop in (
        ("bytes=4-9", 4, 10),
        ("bytes=4-", 4, None),
        ("bytes=-7", -7, None),
        ("bytes=0-99999999", 0, None),
    ):
        part = admin.get(f"api/events/{event['id']}/clip.flac", Range=asked)
        assert (part.status, part.body) == (206, clip.body[first:stop])
    beyond = admin.get(f"api/events/{event['id']}/clip.flac", Range="bytes=99999999-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{len(clip.body)}")
    for ignored in ("bytes=9-4", "bytes=-", "lines=1-2", "bytes=0-1,3-4"):
        assert admin.get(f"api/events/{event['id']}/clip.flac", Range=ignored).status == 200


def validate(name: str, value: object) -> None:
    """Against the description."""
    described = json.loads((ROOT / "monitor" / "web" / "openapi.json").read_text())
    Draft202012Validator({**described, "$ref": f"#/components/schemas/{name}"}).validate(value)


def test_wrong_commands_are_refused_with_the_words_of_the_service(both: Both) -> None:
    admin = both.admin
    with EventSource(admin) as source:
        source.until("event", event_type="start")
    for command, body, status, field, detail in (
        ("snooze", {"duration_s": 99_999}, 422, "duration_s", "duration_s must be in 0..86400, got 99999"),
        ("ack", {"idd": "x"}, 422, "idd", None),
        ("ack", {"id": "another"}, 409, None, None),
    ):
        answer = admin.post(f"api/machines/fan/{command}", body)
        assert (answer.status, answer.json.get("field")) == (status, field), answer
        assert detail in (None, answer.json["detail"])
    unknown = admin.post("api/machines/pump/ack")
    assert (unknown.status, unknown.json["field"], unknown.json["allowed"]) == (404, "machine", "one of fan")
    assert admin.post("api/machines/fan/ack", [1]).status == 400
    for query in ("step=1", "step=x", "from=yesterday", "to=2026-01-01T00:00:00", "step=10&step=20", "limit=3"):
        answer = admin.get(f"api/machines/fan/history?{query}")
        assert (answer.status, "detail" in answer.json) == (422, True), query


def test_a_stream_that_breaks_resumes_without_a_lost_event(both: Both) -> None:
    admin = both.admin
    with EventSource(admin) as whole:
        with EventSource(admin) as first:
            first.until("event", event_type="start")
            first.until("state", state="anomaly")
        n_before = len(whole.events)
        admin.post("api/machines/fan/disable")
        admin.post("api/machines/fan/enable")
        whole.until("event", event_type="end")
        wait_until(lambda: len({one.data["data"]["id"] for one in whole.of("event")}) == 2)
        with EventSource(admin, last_id=first.last_id) as second:
            assert second.until("service", resumed=True)
            last = whole.until("response", command="enable")
            wait_until(lambda: any(one.id == last.id for one in second.events))
            wait_until(lambda: len(second.events) > 5)
        assert n_before
        ids = [one.id for one in [*first.events[1:], *second.events[1:]] if one.kind in ("state", "event", "response")]
        expected = [one.id for one in whole.events if one.kind in ("state", "event", "response")]
        seen = [one for one in ids if one in expected]
        assert seen == expected[expected.index(seen[0]) : expected.index(seen[0]) + len(seen)]
        assert len(set(ids)) == len(ids)
    for other in ("nonsense", "00000000-5", f"{str(first.last_id).partition('-')[0]}-999999999"):
        with EventSource(admin, f"?last={other}") as anew:
            assert anew.until("service").data["resumed"] is False
            anew.until("state")


def test_the_page_says_that_the_service_is_away_and_finds_it_again(both: Both) -> None:
    admin = both.admin
    with EventSource(admin) as source:
        source.until("state")
        both.service.daemon.stop()
        away = source.until("service", running=False)
        assert away.data["reason"] == "the service does not run; start it with: sudo systemctl start stethos"
        assert admin.get("api/machines").status == 503
        both.service.daemon.told.clear()
        both.service.daemon.start().ready()
        wait_until(lambda: source.events.index(source.of("service")[-1]) > source.events.index(away))
        assert source.of("service")[-1].data["running"]
        assert admin.get("api/machines").status == 200


def test_a_service_that_hangs_is_named(both: Both) -> None:
    admin = both.admin
    with EventSource(admin) as source:
        source.until("state")
        process = psutil.Process(both.service.daemon.pid)
        process.suspend()
        try:
            assert source.until("service", running=False).data["reason"] == "the service does not answer"
            assert admin.get("api/node").json["detail"] == "the service does not answer"
        finally:
            process.resume()


def test_one_listens_live_and_everybody_sees_it(both: Both, demo_normal: Path) -> None:
    admin, viewer = both.admin, both.page.client().login(VIEWER)
    with EventSource(viewer) as source:
        source.until("state")
        with Listening(admin) as listening:
            assert listening.status == 200
            listening.wait_for(4.0)
            shown = source.until("listener").data["listener"]
            assert (shown["machine"], shown["by"]) == ("fan", "admin")
            assert viewer.get("api/node").json["listener"] == shown
            second = viewer.get("api/machines/fan/live.pcm")
            assert (second.status, second.json["detail"]) == (
                409,
                "admin is listening to fan; one can listen at a time",
            )
        wait_until(lambda: source.of("listener")[-1].data["listener"] is None)
    samples, _ = soundfile.read(demo_normal, dtype="float32")
    heard = np.frombuffer(bytes(listening.sound[16_000 * 2 : 16_000 * 6]), "<i2") / 32_768.0
    assert np.std(heard) == pytest.approx(np.std(samples), rel=0.3)
    wait_until(lambda: not psutil.Process(both.page.pid).children())
    with Listening(viewer) as listening:
        listening.wait_for(0.5)


class Listening:
    """A client of `live.pcm` that reads on a thread."""

    def __init__(self, client: Client) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        headers = {"Host": client.address} | ({"Cookie": client.cookie} if client.cookie else {})
        self._connection.request("GET", "/api/machines/fan/live.pcm", headers=headers)
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.sound = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait_for(self, seconds: float) -> None:
        wait_until(lambda: len(self.sound) >= 2 * 16_000 * seconds, what="live sound")

    def _read(self) -> None:
        try:
            while data := self._response.read1(4096):
                self.sound += data
        except (OSError, ValueError, http.client.HTTPException):  # closed in the middle
            pass

    def __enter__(self) -> "Listening":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._connection.sock is not None
        self._connection.sock.shutdown(2)
        self._thread.join(10)
        self._connection.close()


def test_nobody_listens_where_it_is_private(both: Both) -> None:
    both.service.configure("fan", more="private: true")
    both.service.restart()
    admin = both.admin
    wait_until(lambda: admin.get("api/machines").status == 200)
    answer = admin.get("api/machines/fan/live.pcm")
    assert (answer.status, "private" in answer.json["detail"]) == (403, True)
    assert admin.get("api/node").json["listener"] is None


def test_a_stream_ends_with_its_session(both: Both) -> None:
    admin = both.admin
    with EventSource(admin) as source:
        source.until("state")
        assert admin.post("api/logout").status == 200
        began = time.monotonic()
        wait_until(lambda: source.ended, 20)
        assert time.monotonic() - began < 17


def test_the_page_stays_within_its_budget(both: Both, record_property: Callable[[str, object], None]) -> None:
    admin = both.admin
    alone_mb = both.page.pss_mb()
    sources = [EventSource(admin, "?machine=fan") for _ in range(10)]
    try:
        for source in sources:
            source.until("frame")
        cpu = psutil.Process(both.page.pid).cpu_times()
        time.sleep(10)
        after = psutil.Process(both.page.pid).cpu_times()
        ten_mb = both.page.pss_mb()
    finally:
        for source in sources:
            source.close()
    percent = 10 * (after.user + after.system - cpu.user - cpu.system)
    assert "numpy" not in Path(f"/proc/{both.page.pid}/maps").read_text()
    figures = f"page: {alone_mb:.1f} MB alone, {ten_mb:.1f} MB and {percent:.1f} % of a core with ten viewers of one machine"
    record_property("figures", figures)
    assert max(alone_mb, ten_mb) <= 40.0


def test_clients_that_break_off_while_they_are_written_to_leave_no_trace_in_the_log(both: Both) -> None:
    request = f"GET /api/stream?machine=fan HTTP/1.1\r\nHost: {both.admin.address}\r\nCookie: {both.admin.cookie}\r\n\r\n"
    with EventSource(both.admin, "?machine=fan") as source:
        wait_until(lambda: len(source.of("frame")) > 9, what="frames, which new clients receive at once")
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", both.page.port), 20) as client:
                client.sendall(request.encode())
                assert client.recv(12) == b"HTTP/1.1 200"
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it is a reset
        n_frames = len(source.of("frame"))
        wait_until(lambda: len(source.of("frame")) > n_frames, what="a frame after that")
    assert "socket.send" not in both.page.log
