"""A key on a PKCS#11 token, here that of SoftHSM: it takes the place of a file, and signs a release."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import need
from tests.train.release.test_release import Release

LIBRARY = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234"
MAKE_KEY = """
import pkcs11, sys
from pkcs11.util.ec import encode_named_curve_parameters

with pkcs11.lib(sys.argv[1]).get_token(token_label="plant").open(rw=True, user_pin=sys.argv[2]) as session:
    parameters = session.create_domain_parameters(
        pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True
    )
    parameters.generate_keypair(mechanism=pkcs11.Mechanism.EC_KEY_PAIR_GEN, store=True, id=bytes([2]), label="release")
"""


class ReleaseProcess(Release):
    """The same in a process of its own: libraries of tokens do not bear those of TensorFlow beside them."""

    def __call__(self, action: str, *words: object, status: int = 0) -> str:
        command = [sys.executable, "-m", "train.cli.main", "release", action, str(self.repository), *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        assert done.returncode == status, (done.stdout, done.stderr)
        return (done.stdout if status == 0 else done.stderr).strip()


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A token with a key; returns its label."""
    need(LIBRARY.exists(), "softhsm2")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nlog.level = ERROR\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    monkeypatch.setenv("PYKCS11LIB", str(LIBRARY))
    init = ["softhsm2-util", "--init-token", "--free", "--label", "plant", "--pin", PIN, "--so-pin", PIN]
    subprocess.run(init, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", MAKE_KEY, str(LIBRARY), PIN], check=True, capture_output=True)
    return "plant"


def test_a_group_s_key_moves_to_a_token_and_signs_there(
    token: str, tmp_path: Path, demo_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = ReleaseProcess(tmp_path, capsys)
    release("init")
    pin, wrong = tmp_path / "pin", tmp_path / "wrong"
    pin.write_text(PIN)
    wrong.write_text("9999")
    assert "--hsm must be hsm:ID?label=TOKEN" in release("rotate", "plant", "--hsm", "file:x", "--passphrase-file", pin, status=2)
    address = f"hsm:2?label={token}"
    assert "new key" in release("rotate", "plant", "--hsm", address, "--passphrase-file", pin)
    for path in (tmp_path / "plant-keys").glob("plant-*.pem"):
        path.unlink()
    assert [path.read_text() for path in (tmp_path / "plant-keys").glob("plant-*.hsm")] == [address]
    assert "r0001" in release("publish", demo_bundle, "--passphrase-file", pin)
    assert "cannot be signed" in release("publish", demo_bundle, "--passphrase-file", wrong, status=1)
    assert "the token needs its PIN" in release("publish", demo_bundle, status=1)
    assert [one.name for one in release.index().releases] == ["r0001"]
    assert "--hsm replaces one key" in release("rotate", "root", "--hsm", address, "--passphrase-file", pin, status=2)
