"""The private keys of a repository: ed25519 in files of mode 0600, encrypted where a passphrase is given, or ECDSA in hardware.

A key in hardware is named by a file ROLE-ID.hsm with its address, which is no secret. The environment variable PYKCS11LIB names
the PKCS#11 library of the token.
"""

import getpass
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qsl, urlparse

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import CryptoSigner, HSMSigner, Key, Signer, SSlibKey

from monitor.errors import StethosError, UsageError, printable
from monitor.files import atomic_write, read_regular, readable_by_others

MAX_BYTES = 100_000  # of a key file


class KeyProblem(StethosError):
    """A private key is missing or cannot be read."""


class Keys:
    """The keys in some folders, found by the ids in the metadata."""

    def __init__(self, folders: Sequence[Path], *, passphrase: bytes | None = None) -> None:
        """Keys that are encrypted need the passphrase."""
        self.folders = tuple(dict.fromkeys(folders))
        self.passphrase = passphrase
        self._warned: set[Path] = set()

    def create(self, role: str, folder: Path, *, encrypts: bool) -> Signer:
        """Write a new key to a folder. It is encrypted if it `encrypts` and there is a passphrase."""
        private = Ed25519PrivateKey.generate()
        signer = CryptoSigner(private)
        how: KeySerializationEncryption = NoEncryption()
        if encrypts and self.passphrase is not None:
            how = BestAvailableEncryption(self.passphrase)
        content = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)
        path = folder / _file_name(role, signer.public_key.keyid)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return signer

    def import_hardware(self, role: str, folder: Path, address: str) -> Signer:
        """Use a key that is on a token, `hsm:ID?label=TOKEN`, from now on. KeyProblem if it is not there."""
        parts = urlparse(address)
        if parts.scheme != HSMSigner.SCHEME or not (parts.path or "0").isdecimal():
            raise UsageError(f"--hsm must be hsm:ID?label=TOKEN, such as hsm:2?label=plant, got {address}")
        label = dict(parse_qsl(parts.query)).get("label")
        with _token_errors(address):
            found, public = HSMSigner.import_(int(parts.path) if parts.path else None, label, self._pin)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        atomic_write(folder / _file_name(role, public.keyid, ".hsm"), found.encode(), mode=0o600)
        with _token_errors(address):
            return HSMSigner.from_priv_key_uri(found, public, self._pin)

    def signers(self, role: str, ids: Iterable[str], public: Mapping[str, Key], *, threshold: int) -> list[Signer]:
        """The signers of a role. KeyProblem if there are fewer than the threshold."""
        wanted = sorted(ids)
        found = self.available(role, wanted, public)
        if len(found) < threshold:
            missing = ", ".join(_file_name(role, one) for one in wanted if one not in {s.public_key.keyid for s in found})
            where = ", ".join(map(str, self.folders))
            raise KeyProblem(
                f"{role} needs {threshold} signature{'s' * (threshold > 1)}, but of its keys {len(found)} are in {where} "
                f"(missing: {missing}); name their folders by --keys"
            )
        return found

    def available(self, role: str, ids: Iterable[str], public: Mapping[str, Key]) -> list[Signer]:
        """The signers whose keys are here."""
        return [signer for one in ids if (signer := self._load(role, one, public[one])) is not None]

    def places(self, role: str, ids: Iterable[str]) -> dict[str, Path | None]:
        """The file of each key; None if it is not here."""
        return {one: next((path for path in self._paths(role, one) if path.is_file()), None) for one in ids}

    def _paths(self, role: str, key_id: str) -> list[Path]:
        return [folder / _file_name(role, key_id, suffix) for folder in self.folders for suffix in (".pem", ".hsm")]

    def _pin(self, _what: str) -> str:
        """The PIN of a token: the passphrase, or what is entered."""
        if self.passphrase is not None:
            return self.passphrase.decode()
        if not sys.stdin.isatty():
            raise KeyProblem("the token needs its PIN: give --passphrase-file FILE, or run at a terminal")
        return getpass.getpass("PIN of the token: ")

    def _load(self, role: str, key_id: str, public: Key) -> Signer | None:
        path = self.places(role, [key_id])[key_id]
        if path is None:
            return None
        try:
            content = read_regular(path, max_bytes=MAX_BYTES)
        except OSError as error:
            raise KeyProblem(f"{path}: cannot be read: {error.strerror}") from error
        if path.suffix == ".pem" and readable_by_others(path) and path not in self._warned:
            self._warned.add(path)
            print(printable(f"warning: other users can read the key {path}; run: chmod go-rwx {path}"), file=sys.stderr)
        if path.suffix == ".hsm":
            with _token_errors(content.decode(errors="replace")):
                return HSMSigner.from_priv_key_uri(content.decode(), public, self._pin)
        is_encrypted = b"ENCRYPTED" in content
        if is_encrypted and self.passphrase is None:
            raise KeyProblem(f"{path} is encrypted: give --passphrase-file FILE, or run at a terminal")
        try:
            private = load_pem_private_key(content, self.passphrase if is_encrypted else None)
            if not isinstance(private, Ed25519PrivateKey) or not isinstance(public, SSlibKey):
                raise KeyProblem(f"{path}: must be an ed25519 key")
            return CryptoSigner(private, public)
        except (ValueError, TypeError) as error:
            why = "the passphrase is wrong, or the file is damaged" if is_encrypted else "it is not a key in PEM"
            raise KeyProblem(f"{path}: cannot be used: {why}") from error


@contextmanager
def _token_errors(address: str) -> Iterator[None]:
    try:
        yield
    except UnsupportedLibraryError as error:
        raise KeyProblem(f"keys in hardware need python-pkcs11: pip install 'stethos[release]' ({error})") from error
    except (ValueError, RuntimeError, OSError, AttributeError) as error:
        raise KeyProblem(f"{address}: the key in hardware cannot be used: {error or type(error).__name__}") from error


def _file_name(role: str, key_id: str, suffix: str = ".pem") -> str:
    return f"{role}-{key_id[:16]}{suffix}"
