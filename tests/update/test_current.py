"""The message `bundle/current`: its group, and the hours of scored sound."""

from pathlib import Path

import pytest

from monitor.bundle import load_bundle
from monitor.config import load_config
from monitor.config.installed import Change, Installed
from monitor.daemon.bundles.current import EVERY_S, CurrentBundles
from monitor.mqtt.messages import CurrentMessage
from tests.update.plant import Node, changed_bundle


def test_it_names_the_group_and_counts_the_sound_that_was_scored(tmp_path: Path, demo_bundle: Path) -> None:
    config = load_config(Node(tmp_path / "node", demo_bundle, None).config, {})
    bundles = {"fan": load_bundle(demo_bundle)}
    sent: list[CurrentMessage] = []
    scored: dict[str, float] = {}
    current = CurrentBundles(sent.append, lambda: scored)
    current.poll(0.0)
    assert sent == []
    current.apply_config(config, bundles, {})
    assert (sent[-1].group, sent[-1].machines["fan"].hours) == ("hall-1", 0.0)
    for scored["fan"] in (3600.0, 7200.0, 1800.0):  # the machine is restarted before the last
        current.poll(0.0)
    current.poll(EVERY_S * 1e6)
    assert sent[-1].machines["fan"].hours == 2.5
    scored["fan"] = 0.0
    current.apply_config(config, {"fan": load_bundle(changed_bundle(demo_bundle, tmp_path / "second", factor=1.1))}, {})
    assert sent[-1].machines["fan"].hours == 0.0


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_damaged_bundle_s_release_is_not_reported_for_the_one_in_its_place(
    is_damaged: bool, tmp_path: Path, demo_bundle: Path
) -> None:
    config = load_config(Node(tmp_path / "node", demo_bundle, None).config, {})
    bundle = load_bundle(demo_bundle)
    newest = "other@0123456789ab" if is_damaged else bundle.id
    installed = Installed(
        current=Change(folder="f", bundle=newest, release="r0002"), previous=Change(bundle="b", release="r0001")
    )
    sent: list[CurrentMessage] = []
    CurrentBundles(sent.append, dict).apply_config(config, {"fan": bundle}, {"fan": installed})
    assert sent[-1].machines["fan"].release == ("r0001" if is_damaged else "r0002")
