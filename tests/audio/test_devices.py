"""Selectors and their devices, on a synthetic /sys, and the reasons why a plugged-in microphone cannot be used."""

import socket
import tempfile
from pathlib import Path

import pytest

from monitor.audio.capture import open_error_text
from monitor.audio.devices import Device, Unavailable, Usb, find_device, identify, is_unplugged, why_missing
from tests.audio.rights import without_root


def device(index: int, name: str, *, is_default: bool = False) -> Device:
    return Device(
        index=index,
        name=name,
        host_api="ALSA",
        n_channels=1,
        default_rate_hz=48000,
        rates_hz=(48000,),
        is_default=is_default,
        usb=None,
        selector="",
    )


def plug(root: Path, card: int, port: str, *, vendor: str = "0d8c", product: str = "0014", serial: str | None = None) -> None:
    """A USB sound card as Linux shows it: the card's device is an interface of the USB device in a port."""
    usb = root / "sys/devices/pci0/usb1" / port
    interface = usb / f"{port}:1.0"
    (interface / "sound" / f"card{card}").mkdir(parents=True)
    (usb / "idVendor").write_text(vendor + "\n")
    (usb / "idProduct").write_text(product + "\n")
    (usb / "product").write_text("USB Audio Device\n")
    if serial is not None:
        (usb / "serial").write_text(serial + "\n")
    (interface / "sound" / f"card{card}" / "device").symlink_to(interface)
    classes = root / "sys/class/sound"
    classes.mkdir(parents=True, exist_ok=True)
    (classes / f"card{card}").symlink_to(interface / "sound" / f"card{card}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two identical microphones in a hub, one with a serial number, and the built-in sound card."""
    plug(tmp_path, 1, "1-1.2")
    plug(tmp_path, 2, "1-1.3")
    plug(tmp_path, 3, "3-2", vendor="08BB", product="2902", serial="SN:7")
    (tmp_path / "sys/devices/platform/soc/sound/card0").mkdir(parents=True)
    (tmp_path / "sys/class/sound/card0").symlink_to(tmp_path / "sys/devices/platform/soc/sound/card0")
    return tmp_path


@pytest.fixture
def devices(root: Path) -> list[Device]:
    listed = [
        device(0, "bcm2835 HDMI: - (hw:0,0)"),
        device(4, "USB Audio Device: - (hw:1,0)"),
        device(5, "USB Audio Device: - (hw:2,0)"),
        device(6, "USB PnP Codec: Audio (hw:3,0)", is_default=True),
        device(7, "USB PnP Codec: Audio #1 (hw:3,1)"),
        device(8, "pulse"),
    ]
    return identify(listed, root=root)


def test_usb_identity_comes_from_sys(devices: list[Device]) -> None:
    assert [one.usb for one in devices] == [
        None,
        Usb("0d8c", "0014", None, "1-1.2"),
        Usb("0d8c", "0014", None, "1-1.3"),
        Usb("08bb", "2902", "SN:7", "3-2"),
        Usb("08bb", "2902", "SN:7", "3-2"),
        None,
    ]


def test_each_gets_its_most_stable_selector(devices: list[Device]) -> None:
    selectors = [one.selector for one in devices]
    assert selectors == [
        "name:bcm2835 HDMI: -",
        "usb-port:1-1.2",  # two alike, without a serial number
        "usb-port:1-1.3",
        "usb:08bb:2902:SN:7",
        "usb:08bb:2902:SN:7",
        "name:pulse",
    ]
    for one in devices:
        found = find_device(devices, one.selector)
        assert (found.usb, found.plain_name.split(" #")[0]) == (one.usb, one.plain_name.split(" #")[0])


@pytest.mark.parametrize(
    ("selector", "index"),
    [
        ("default", 6),
        ("name:hdmi", 0),
        ("name:USB PnP codec: audio", 6),  # the whole name beats a part of another
        ("name:PULSE", 8),
        ("usb-port:1-1.3", 5),
        ("usb:08bb:2902", 6),
        ("usb:08BB:2902:SN:7", 6),
        ("index:5", 5),
    ],
)
def test_a_selector_matches_one_device(devices: list[Device], selector: str, index: int) -> None:
    assert find_device(devices, selector).index == index


@pytest.mark.parametrize(
    ("selector", "reason", "words"),
    [
        ("name:nothing like it", "absent", "no such microphone; present: bcm2835"),
        ("usb:08bb:2902:SN:8", "absent", "USB PnP Codec: Audio (hw:3,0) [usb:08bb:2902:SN:7]"),
        ("usb-port:1-1", "absent", "no such microphone"),  # the hub is not the microphone in it
        ("index:3", "absent", "no such microphone"),
        ("usb:0d8c:0014", "failed", "must match one microphone, got 2; present: "),
        ("name:USB", "failed", "must match one microphone, got 4"),
        ("hw:1,0", "failed", "must be one of default, name:TEXT"),
        ("index:-1", "failed", "must be one of"),
        ("name:", "failed", "must be one of"),
    ],
)
def test_an_error_lists_the_devices_in_one_line(devices: list[Device], selector: str, reason: str, words: str) -> None:
    with pytest.raises(Unavailable) as caught:
        find_device(devices, selector)
    assert caught.value.reason == reason
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_any_device_the_default_is_absent() -> None:
    with pytest.raises(Unavailable, match="present: none"):
        find_device([], "default")


def test_a_replugged_microphone_is_found_under_another_number(tmp_path: Path) -> None:
    plug(tmp_path, 4, "1-1.2", serial="A1")
    [found] = identify([device(0, "USB Audio Device: - (hw:4,0)")], root=tmp_path)
    assert find_device([found], "usb:0d8c:0014:A1") == find_device([found], "usb-port:1-1.2") == found


def test_sys_shows_that_a_usb_microphone_is_unplugged(root: Path) -> None:
    assert is_unplugged("usb:0d8c:9999", root=root)
    assert is_unplugged("usb-port:1-1.4", root=root)
    assert not is_unplugged("usb:08bb:2902:SN:7", root=root)
    assert not is_unplugged("name:anything", root=root)  # only PortAudio can find it


def test_a_card_without_a_node_gives_no_reason(root: Path) -> None:
    assert why_missing("usb-port:1-1.2", root=root) is None


def test_a_node_that_may_not_be_opened_is_denied() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        plug(root, 1, "1-1.2")
        plug(root, 2, "1-1.3")
        node = root / "dev/snd/pcmC1D0c"
        node.parent.mkdir(parents=True)
        node.touch(mode=0o000)
        with without_root():
            found = [why_missing(selector, root=root) for selector in ("usb-port:1-1.2", "name:usb audio", "default")]
            assert why_missing("usb-port:1-1.3", root=root) is None  # another card
    assert [one.reason for one in found if one] == ["denied"] * 3
    assert "pcmC1D0c: Permission denied; is this user in the group audio?" in str(found[0])


def test_a_node_without_a_driver_is_absent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "dev/snd"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("pcmC1D0c")  # opening it fails as opening a node does that has no driver: ENXIO
    found = why_missing("usb:0d8c:0014", root=root)
    assert found is not None
    assert found.reason == "absent"


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        ("Error opening InputStream: Device unavailable", -9985, "busy"),
        ("Unanticipated host error: Device or resource busy", -9999, "busy"),
        ("Unanticipated host error: Permission denied", -9999, "denied"),
        ("Unanticipated host error: No such device", -9999, "absent"),
        ("Invalid device", -9996, "absent"),
        ("Insufficient memory", -9992, "failed"),
    ],
)
def test_errors_of_portaudio_are_classified(text: str, code: int, reason: str) -> None:
    error = open_error_text(Exception(text, code), device(3, "Gone: - (hw:31,0)"), "usb:1209:0000")
    assert error.reason == reason
    assert str(error).startswith("Gone: - (hw:31,0): ")
