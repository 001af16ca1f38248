from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.update.plant import Plant, running_plant


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with running_plant(tmp_path / "web") as plant:
        yield plant
