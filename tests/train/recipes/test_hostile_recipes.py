"""Whatever a recipe file contains, it is loaded or refused in one line, soon."""

import copy
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.errors import ConfigError, printable
from train.recipes.recipe import RECIPES, load_recipe

N = 500  # mutants of each kind
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 0.5, 1e308, 1e-300, float("nan"), float("inf"), 2**31, 2**63, 10**30, 10**400),
    *("", "x", "1e3", "0x10", "1_000", "2026-01-01", "a\nb", "\udcff", [], {}, [1], {"a": 1}, [[[[1]]]]),
]
PIECES = [
    b"&a [*a]",
    b"!!python/object:os.system x",
    b"{",
    b"- ",
    b": ",
    b"\t",
    b"\0",
    b"!!binary x",
    b"<<: *x",
    b"[" * 200,
    b"? ",
]


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield content, key
        if isinstance(value, dict | list):
            yield from places(value)


def with_other_values(text: str, rng: random.Random) -> bytes:
    content = copy.deepcopy(yaml.safe_load(text))
    container, key = rng.choice(list(places(content)))
    if rng.random() < 0.9:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    else:
        del container[key]
    return yaml.safe_dump(content, allow_unicode=True).encode("utf-8", "surrogatepass")


def with_other_bytes(text: str, rng: random.Random) -> bytes:
    raw = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw))
        raw[at : at + rng.choice([0, 1, 20])] = rng.choice([*PIECES, bytes([rng.randrange(256)]), raw[max(0, at - 40) : at]])
    return bytes(raw)


@pytest.mark.parametrize("mutate", [with_other_values, with_other_bytes])
def test_mutants_are_loaded_or_refused_in_one_line(mutate: Any, tmp_path: Path) -> None:
    rng, refused = random.Random(7), 0
    shipped = [path.read_text() for path in sorted(RECIPES.glob("*.yaml"))]
    path = tmp_path / "mutant.yaml"
    for _ in range(N):
        path.write_bytes(mutate(rng.choice(shipped), rng))
        began = time.process_time()
        try:
            load_recipe(str(path)).at(8_000)
        except ConfigError as error:
            refused += 1
            assert len(printable(str(error)).splitlines()) == 1
        assert time.process_time() - began < 5.0
    assert refused > N / 4


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_fft", 10**400), ("hop_length", 10**400), ("hidden", [10**9]), ("epochs", 10**400), ("gain_db", 1e308)],
)
def test_numbers_that_no_machine_has_are_refused(key: str, value: object, tmp_path: Path) -> None:
    content = yaml.safe_load((RECIPES / "default.yaml").read_text())
    (container,) = (container for container, name in places(content) if name == key)
    container[key] = value
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=key):
        load_recipe(str(tmp_path / "large.yaml"))


@pytest.mark.parametrize("seconds", [1e-3, 1.0])
def test_a_segment_may_be_one_tick(seconds: float, tmp_path: Path) -> None:
    content = yaml.safe_load((RECIPES / "default.yaml").read_text()) | {"segment_s": seconds}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(content))
    recipe = load_recipe(str(tmp_path / "short.yaml"))
    rule = recipe.rule(clear_ratio=0.9)
    assert (recipe.segment_ticks, rule.raise_k, rule.raise_n) == (1, 3, 3)
