"""Mutants of the shipped configuration. See tests/fuzz.py."""

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from monitor.config import check_settings
from monitor.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "configs" / "monitor.yaml"
LIMIT_S = 10.0
SCALARS = (  # as written in YAML
    *("~", "''", "true", "yes", "-1", "0", "1.5", ".5", "1e999", ".nan", "-.inf", "9" * 500, "1" * 20_000, "0x_", "0b", "1:1:1"),
    *(
        "2026-11-21",
        "2026-99-99 25:61:61",
        "-",
        "?",
        "|\n  a\n  b\n",
        '"a\\nb"',
        '"\\0"',
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        "'\u2028'",
    ),
    *('"\\x1b[2J"', "ü", "~root", "~nobody-there/x", "/dev/zero", "../..", "a" * 5_000, "%", "@", "`", "&", "*", "'unclosed"),
)
TAGGED = (
    "!!bool zzz",
    "!!int ''",
    "!!float a",
    "!!timestamp a",
    "!!binary '%'",
    "!!set {a}",
    "!!omap [a]",
    "!!python/name:os.x ''",
)
COLLECTIONS = (
    "[]",
    "{}",
    "[[]]",
    "{a: {}}",
    "[1, 2]",
    "{~: 1}",
    "{[a]: 1}",
    "{{a: 1}: 1}",
    "{1: 2}",
    "[" * 200,
    "[" * 60 + "]" * 60,
)
ALIASES = (
    "*nothing",
    "&a [*a]",
    "&a {<<: *a}",
    "{<<: 1}",
    "{<<: [{}, 1]}",
    "&l [&k [x, x], *k, *k]",
    "{<<: &m {<<: {bundle: b}}}",
)
SPLICES = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\t",
    b"\r",
    b"\n",
    b"\x85",
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
    b"<<: ",
)
KEYS = ("", "Fan 1", "a\\nb", "\\0", "\\ud800", "<<", "~", "=", "host", "hots", "password", "x" * 300, "\\x1b[2J", "a.b", "[key]")
Tree = dict[str, Any]


class Written(str):
    """A value as it is written in YAML."""


def mutants(n: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """The kind and the content of `n` files, each a mutant of the shipped configuration."""
    choose = random.Random(seed)
    shipped = yaml.load(SHIPPED.read_text(), yaml.SafeLoader)
    kinds: dict[str, Callable[[random.Random, Tree], bytes]] = {
        "value": lambda choose, tree: _replaced(choose, tree, (*SCALARS, *(repr(choose.gauss(0, 1e6)) for _ in range(5)))),
        "type": lambda choose, tree: _replaced(choose, tree, (*TAGGED, *COLLECTIONS, *ALIASES)),
        "structure": _restructured,
        "bytes": lambda choose, _: _spliced(choose, SHIPPED.read_bytes()),
        "bytes of flow style": lambda choose, tree: _spliced(choose, _written(tree).encode()),
        "explosion": _explosion,
    }
    for index in range(n):
        kind = list(kinds)[index % len(kinds)]
        yield kind, kinds[kind](choose, copy.deepcopy(shipped))


def _places(tree: Tree) -> Iterator[tuple[Tree, str]]:
    for key, value in tree.items():
        yield tree, key
        if isinstance(value, dict):
            yield from _places(value)


def _replaced(choose: random.Random, tree: Tree, values: tuple[str, ...]) -> bytes:
    for _ in range(choose.choice((1, 1, 1, 3))):
        section, key = choose.choice(list(_places(tree)))
        section[key] = Written(choose.choice(values))
    return _written(tree).encode("utf-8", "surrogatepass")


def _restructured(choose: random.Random, tree: Tree) -> bytes:
    for _ in range(choose.choice((1, 2, 4))):
        (section, key), (other, _) = choose.choices(list(_places(tree)), k=2)
        change = choose.randrange(6)
        if change == 0:
            del section[key]
        elif change == 1:
            section[choose.choice(KEYS)] = section.pop(key)
        elif change == 2:
            other[key] = copy.deepcopy(section[key])
        elif change == 3:
            section[key] = Written(f"[{_written(section[key])}]")
        elif change == 4:
            section[key] = Written(f"&{key} {_written(section[key])}, again: *{key}")
        else:
            section[key] = Written(f"{_written(section[key])}, {key}: {_written(section[key])}")
    return _written(tree).encode("utf-8", "surrogatepass")


def _spliced(choose: random.Random, content: bytes) -> bytes:
    for _ in range(choose.choice((1, 2, 8))):
        start = choose.randrange(len(content) + 1)
        stop = start + choose.choice((0, 1, 4, 40))
        inserted = choose.choice(
            (*SPLICES, b"", content[stop : stop + 20], choose.randbytes(2), bytes(choose.choices(b"{}[]&*!|>%@'\",:?-#", k=3)))
        )
        content = content[:start] + inserted + content[stop:]
    return content[: choose.randrange(len(content))] if choose.random() < 0.1 else content


def _explosion(choose: random.Random, tree: Tree) -> bytes:
    """Each of several values consists of ten aliases of the one before; a setting refers to the last."""
    first, many = choose.choice((("{k: v}", "{{<<: [{}]}}"), ("[x]", "[{}]"), ("{k: v}", "{{a: [{}]}}")))
    n = choose.randint(2, 12)
    lines = [f"a0: &a0 {first}", *(f"a{i}: &a{i} {many.format(', '.join([f'*a{i - 1}'] * 10))}" for i in range(1, n))]
    section, key = choose.choice(list(_places(tree)))
    section[key] = Written(f"*a{n - 1}")
    rest = (f"{key}: {_written(value)}" for key, value in tree.items())
    return "\n".join([*lines, *rest]).encode()


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {_written(below)}' for key, below in value.items()) + "}"
    return value if isinstance(value, Written) else yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()


def read(content: bytes, folder: Path) -> str | None:
    """Load a file as `monitor check-config` does: the first reason for a refusal, or None."""
    path = folder / "monitor.yaml"
    path.write_bytes(content)
    try:
        config, lines = check_settings(path, {})
        if config is not None:
            yaml.safe_dump(config.model_dump(mode="json", by_alias=True))
    except ConfigError as error:
        config, lines = None, [str(error)]
    assert config is not None or lines
    for line in lines:
        assert line.isprintable(), line
        assert len(line) <= 500, line
        assert line.startswith(f"{path}: "), line
    return lines[0] if config is None else None
