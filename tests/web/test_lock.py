"""The page's third-party modules: exact versions with their sums, and no host."""

import json
import re

from tests.conftest import ROOT

FOLDER = ROOT / "scripts" / "page"


def test_the_lock_has_a_sum_for_every_module_and_no_host() -> None:
    text = (FOLDER / "package-lock.json").read_text()
    assert "://" not in text and "resolved" not in text
    packages = {name: one for name, one in json.loads(text)["packages"].items() if name}
    esbuild = ("linux-arm", "linux-arm64", "linux-x64")
    names = ("axe-core", "htm", "preact", "uplot", *(f"@esbuild/{system}" for system in esbuild))
    assert set(packages) == {f"node_modules/{name}" for name in names}
    assert all(re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", one["integrity"]) for one in packages.values())
    wanted = json.loads((FOLDER / "package.json").read_text())
    exact = {**wanted["dependencies"], **wanted["devDependencies"], **wanted["optionalDependencies"]}
    assert exact == {name.removeprefix("node_modules/"): one["version"] for name, one in packages.items()}
