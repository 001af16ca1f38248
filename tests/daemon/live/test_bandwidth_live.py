"""A real microphone whose rate cannot carry the bundle's bands, under the real daemon."""

from pathlib import Path

from tests.daemon.deaf_fan import BASE, running_service


def test_a_microphone_of_8_khz_is_unknown_and_not_available(tmp_path: Path, demo_bundle: Path, demo_normal: Path) -> None:
    with running_service(tmp_path, demo_bundle, demo_normal) as service:
        entry = f"{{bundle: {demo_bundle}, microphone: 'name:mic', microphone_rate_hz: 8000, channel: 1}}"
        service.daemon.config.write_text(f"node: pi\nmqtt: {{port: {service.broker.port}}}\nmachines:\n  fan: {entry}\n")
        service.daemon.start().ready()
        service.until_state(state="unknown", reason="bandwidth")
        assert set(service.watcher.on(f"{BASE}/fan/availability")) == {"offline"}
        assert service.anomaly() == "None"
        assert "microphone name:mic: recorded at 8000 Hz, but demo-fan@" in service.daemon.log
        assert not service.watcher.on(f"{BASE}/fan/event")
