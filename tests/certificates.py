"""Certificates made by openssl: an authority, and what it has signed."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import need

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def _openssl(*arguments: str | Path) -> None:
    try:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    except FileNotFoundError:
        need(False, "openssl")


@dataclass(frozen=True)
class Certificate:
    certificate: Path
    key: Path


class Authority:
    """Signs certificates; each becomes NAME.crt and NAME.key in the folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self.ca, self._key = folder / f"{name}.crt", folder / f"{name}.key"
        _openssl("req", "-x509", *KEY, "-days", "2", "-subj", f"/CN={name}", "-keyout", self._key, "-out", self.ca)

    def sign(self, name: str, *, host: str | None = None, expired: bool = False) -> Certificate:
        """For a server that is called `host`, else for a client."""
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        made = Certificate(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        kind = "IP" if host is not None and host[0].isdigit() else "DNS"
        extensions.write_text(f"subjectAltName={kind}:{host or name}\n")
        _openssl("req", *KEY, "-subj", f"/CN={name}", "-keyout", made.key, "-out", request)
        signing: list[str | Path] = ["-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions]
        if expired:
            self._sign_for_yesterday(request, extensions, made.certificate)
        else:
            _openssl("x509", "-req", "-in", request, *signing, "-days", "2", "-out", made.certificate)
        made.key.chmod(0o644)  # mosquitto may have dropped root
        return made

    def _sign_for_yesterday(self, request: Path, extensions: Path, certificate: Path) -> None:
        """`openssl x509` cannot; `openssl ca` can."""
        config = self._folder / "ca.conf"
        (self._folder / "index.txt").write_text("")
        config.write_text(
            f"[ca]\ndefault_ca=own\n[own]\ndatabase={self._folder}/index.txt\nnew_certs_dir={self._folder}\n"
            "rand_serial=yes\ndefault_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
        )
        dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"]
        signer: list[str | Path] = ["-config", config, "-cert", self.ca, "-keyfile", self._key, "-extfile", extensions]
        _openssl("ca", "-batch", "-notext", *signer, *dates, "-in", request, "-out", certificate)
