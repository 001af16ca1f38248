"""Who shares a microphone, and what it is asked for."""

from pathlib import Path

from monitor.bundle import load_bundle
from monitor.config import MachineConfig
from monitor.daemon.machine import MachineSpec
from monitor.daemon.supervisor import microphone_keys


def test_machines_that_share_a_microphone_ask_for_the_highest_of_their_rates(demo_bundle: Path) -> None:
    slow = load_bundle(demo_bundle)
    front_end = slow.manifest.front_end.__class__(**{**vars(slow.manifest.front_end), "sample_rate_hz": 32000})
    fast = type(slow)(**{**vars(slow), "manifest": slow.manifest.model_copy(update={"front_end": front_end})})
    machines = {
        name: MachineConfig(bundle=demo_bundle, microphone=f"name:{which}") for name, which in zip("abc", "xxy", strict=True)
    }
    keys = microphone_keys(machines, {"a": slow, "b": fast, "c": slow})
    assert keys == {"a": ("name:x", None, 32000), "b": ("name:x", None, 32000), "c": ("name:y", None, 16000)}


def test_a_name_for_people_makes_no_other_machine(demo_bundle: Path) -> None:
    bundle = load_bundle(demo_bundle)
    settings = MachineConfig(bundle=demo_bundle)
    renamed = settings.model_copy(update={"name": "Exhaust fan"})
    moved = settings.model_copy(update={"channel": 2})
    made_of = MachineSpec.of(settings, bundle, rate_hz=16000)
    assert MachineSpec.of(renamed, bundle, rate_hz=16000) == made_of
    assert MachineSpec.of(moved, bundle, rate_hz=16000) != made_of
    assert MachineSpec.of(settings, bundle, rate_hz=48000) != made_of
