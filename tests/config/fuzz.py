"""Load mutants of the shipped configuration, and count tracebacks, hangs, and errors that are not one line.

python -m tests.config.fuzz [-n 2000] [--seed 0]
"""

import argparse
import copy
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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


def mutants(n: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
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


@dataclass
class Outcomes:
    """Counts over all mutants, and the failures."""

    tried: int = 0
    accepted: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    failures: list[tuple[str, bytes]] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{self.tried} tried, {self.refused} refused, {self.accepted} accepted, {len(self.failures)} failures"
        lines = (f"  {n} x {what}" for what, n in Counter(what for what, _ in self.failures).most_common())
        return "\n".join([f"{counts}, slowest {self.slowest_s:.1f} s", *lines])


def run(n: int, seed: int = 0) -> Outcomes:
    """Load each mutant as `monitor check-config` does."""
    outcomes = Outcomes()
    before = signal.signal(signal.SIGALRM, _too_slow)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "monitor.yaml"
        for kind, content in mutants(n, seed):
            path.write_bytes(content)
            started = time.monotonic()
            failure = _load(path, outcomes)
            outcomes.tried += 1
            outcomes.slowest_s = max(outcomes.slowest_s, time.monotonic() - started)
            if failure is not None:
                outcomes.failures.append((f"{kind}: {failure}", content))
    signal.signal(signal.SIGALRM, before)
    return outcomes


def _load(path: Path, outcomes: Outcomes) -> str | None:
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        config, lines = check_settings(path, {})
        if config is not None:
            yaml.safe_dump(config.model_dump(mode="json", by_alias=True))
    except ConfigError as error:
        config, lines = None, [str(error)]
    except Exception as error:  # noqa: BLE001 (any other one is a traceback)
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    outcomes.accepted += config is not None
    outcomes.refused += config is None
    if config is None and not lines:
        return "refused without a reason"
    odd = next((line for line in lines if not line.isprintable() or len(line) > 500 or not line.startswith(f"{path}: ")), None)
    return None if odd is None else f"not one short line: {odd[len(str(path)) : 160]!r}"


def _too_slow(*_: object) -> None:
    raise TimeoutError


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    outcomes = run(**vars(parser.parse_args()))
    print(outcomes)
    sys.exit(bool(outcomes.failures))
