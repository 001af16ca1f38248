"""The recipe `wide` on a live microphone at 48 kHz: a leak that is heard above 8 kHz only."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from monitor.arrays import F32
from tests.broker import PERSISTENT, running_broker
from tests.daemon.daemon_process import DaemonProcess
from tests.rig import virtual_microphone
from tests.subscriber import Subscriber
from tests.train.recipes.test_recipes import quick
from tests.waiting import wait_until
from train.cli.main import main as train

RATE_HZ = 48_000
HISS_HZ = (12_000.0, 16_000.0)
N_TRAINING, TRAINING_S = 16, 15


def machine(take: int, seconds: float) -> F32:
    """A motor's hum under broad noise that falls by 6 dB an octave, whose level and tilt differ a little between recordings."""
    draw = np.random.default_rng(take)
    n = round(seconds * RATE_HZ)
    noise = signal.lfilter([1.0, draw.normal(0.0, 0.05)], [1.0, -0.9], draw.standard_normal(n))
    hum = np.sin(2 * np.pi * 100.0 * np.arange(n) / RATE_HZ)
    return np.asarray(0.02 * 10 ** (draw.normal(0.0, 0.5) / 20) * (noise + hum), np.float32)


def with_hiss(sound: F32) -> F32:
    band = signal.butter(6, HISS_HZ, btype="bandpass", fs=RATE_HZ, output="sos")
    hiss = signal.sosfilt(band, np.random.default_rng(99).standard_normal(len(sound)))
    return np.asarray(sound + 0.04 * hiss, np.float32)


@pytest.fixture(scope="module")
def wide_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wide")
    (folder / "set/normal").mkdir(parents=True)
    for take in range(N_TRAINING):
        soundfile.write(folder / f"set/normal/{take:03d}.flac", machine(take, TRAINING_S), RATE_HZ)
    recipe = quick("wide", folder, epochs=8, batch_size=64)
    assert train(["fit", str(folder / "set"), "--recipe", str(recipe), "--out", str(folder / "wide")]) == 0
    return folder / "wide"


def test_a_leak_above_8_khz_is_reported_live(wide_bundle: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "normal.flac", machine(100, 90), RATE_HZ)
    soundfile.write(tmp_path / "leak.flac", with_hiss(machine(100, 90)), RATE_HZ)
    with virtual_microphone(tmp_path / "audio", rate_hz=RATE_HZ) as microphone, running_broker(tmp_path, PERSISTENT) as broker:
        (tmp_path / "daemon").mkdir()
        daemon = DaemonProcess(tmp_path / "daemon", microphone.environment)
        daemon.config.write_text(
            f"node: pi\nmqtt: {{port: {broker.port}}}\n"
            f"machines:\n  fan: {{bundle: {wide_bundle}, microphone: 'name:mic', microphone_rate_hz: {RATE_HZ}}}\n"
        )
        with Subscriber(broker, topic="stethos/#", session="listener") as listener, daemon:
            daemon.start().ready()
            wait_until(lambda: listener.ending("fan/availability", since=0.0), within_s=20.0, what="availability")
            player = microphone.play(tmp_path / "normal.flac")
            wait_until(lambda: '"state": "normal"' in str(listener.ending("fan/state", since=0.0)), within_s=80.0, what="normal")
            assert not listener.events()
            player.kill()
            microphone.play(tmp_path / "leak.flac")
            wait_until(listener.events, within_s=80.0, what=f"an event\n{daemon.log}")
    event = listener.events()[0]
    assert event["event_type"] == "start"
    loudest = max(event["bands"], key=lambda band: band["excess_db"])
    assert HISS_HZ[0] - 2_000 < loudest["low_hz"] < loudest["high_hz"] < HISS_HZ[1] + 2_000
    assert loudest["excess_db"] > 6.0
