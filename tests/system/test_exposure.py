"""How much of the system each unit can reach, as systemd-analyze rates it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, need

UNITS = sorted((ROOT / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_its_exposure_is_at_most_one_and_a_half(unit: Path) -> None:
    need(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=15", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    exposure = re.search(rf"Overall exposure level for {re.escape(unit.name)}: (\d\.\d)", done.stdout)
    assert done.returncode == 0 and exposure is not None, done.stdout[-300:]
    assert 0 < float(exposure[1]) <= 1.5
