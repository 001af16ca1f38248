"""Mutants of a bundle: damaged or crafted manifests, statistics and models, with hashes that fit.

Each mutant passes the checks of hashes, so that it reaches the others.
"""

import copy
import io
import json
import random
import shutil
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from monitor.block import Block
from monitor.bundle import load_bundle
from monitor.bundle.load import sha256
from monitor.bundle.manifest import Manifest
from monitor.errors import BundleError
from monitor.scoring.golden import golden_score
from monitor.scoring.scorer import score_stream

Files = Mapping[str, bytes]
DEMO = Path(__file__).parents[2] / "models" / "demo-fan"
MANIFEST, MODEL, STATISTICS = "manifest.json", "model.tflite", "statistics.npz"
NUMBERS: list[Any] = [0, -1, 1, 2, 7, 255, 256, 1024, 2**20, 2**31 - 1, -(2**31), 2**32, 2**63, 10**400, -(10**400)]
FLOATS: list[Any] = [0.5, -0.0, 5e-324, 1e-310, 1e-45, 1e300, 1.7976931348623157e308, float("nan"), float("inf"), -float("inf")]
OTHERS: list[Any] = [
    None,
    True,
    False,
    "",
    "x",
    "\ud800",
    "\x00",
    "é" * 300,
    [],
    {},
    [[]],
    {"a": 1},
    [1] * 2000,
    "1e999",
    "9" * 5000,
]


def demo_mutants(n: int, seed: int, *, kinds: Sequence[str]) -> Iterator[tuple[str, Files]]:
    """`n` mutants of the demo bundle, of these kinds in turn."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = short_bundle(DEMO, Path(folder))
        files = {name: (bundle / name).read_bytes() for name in (MANIFEST, MODEL, STATISTICS)}
    rng = random.Random(seed)
    for number in range(n):
        kind = kinds[number % len(kinds)]
        yield kind, KINDS[kind](files, rng)


def read(files: Files, folder: Path) -> str | None:
    """Load a bundle and score noise with it: the refusal, or None."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        scorer = load_bundle(folder).scorer()
    except BundleError as error:
        assert str(error).startswith(str(folder))
        return str(error)
    score_stream(scorer, [Block(0, np.random.default_rng(0).normal(0.0, 0.1, 20_000).astype(np.float32))])
    return None


def short_bundle(bundle: Path, out: Path) -> Path:
    """A copy of a bundle with segments of two ticks, which loads faster."""
    for name in (MANIFEST, MODEL, STATISTICS):
        shutil.copy(bundle / name, out / name)
    manifest = json.loads((out / MANIFEST).read_text())
    manifest["segment_ticks"] = 2
    loaded = load_bundle(bundle)
    short = replace(loaded, manifest=Manifest.model_validate_json(json.dumps(manifest)))
    manifest["golden"]["score"] = golden_score(short.scorer())
    (out / MANIFEST).write_text(json.dumps(manifest))
    return out


def with_model(files: Files, model: bytes) -> Files:
    """The files with another model, and its hash."""
    return _with(files, MODEL, model, lambda manifest: manifest["model"])


def with_statistics(files: Files, statistics: bytes) -> Files:
    """The files with other statistics, and their hash."""
    return _with(files, STATISTICS, statistics, lambda manifest: manifest["detector"]["statistics"])


def flipped(content: bytes, rng: random.Random, *, where: list[int] | None = None) -> bytes:
    """Content with one to four bytes changed, at `where` or anywhere."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.choice(where) if where is not None else rng.randrange(len(changed))
        changed[at] = rng.choice((changed[at] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 0xFF, 0x7F, 0x80))
    return bytes(changed)


@lru_cache
def structure(model: bytes) -> list[int]:
    """The positions of a model's bytes that are not weights."""
    is_weight = np.zeros(len(model), bool)
    for buffer in schema.ModelT.InitFromPackedBuf(model, 0).buffers:
        if buffer.data is not None and len(buffer.data) >= 64:
            at = model.find(bytes(bytearray(buffer.data)))
            is_weight[at : at + len(buffer.data)] = True
    return [int(at) for at in np.flatnonzero(~is_weight)]


def with_changed_table(model: bytes, rng: random.Random) -> bytes:
    """A model with one to three values of its tables changed: indices, shapes, types, options, scales, lengths."""
    tables = unpack(model)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        _change(tables, rng)
    return pack(tables)


def unpack(model: bytes) -> Any:
    """The tables of a .tflite file, to be changed and packed again."""
    tables = schema.ModelT.InitFromPackedBuf(model, 0)
    _thaw(tables)
    return tables


def _thaw(table: Any) -> None:
    """Turn short vectors, which are read-only arrays, into lists."""
    for key, value in list(vars(table).items()):
        if isinstance(value, np.ndarray) and len(value) <= 64:
            setattr(table, key, value.tolist())
        for part in value if isinstance(value, list) else [value]:
            if hasattr(part, "__dict__"):
                _thaw(part)


def pack(tables: Any) -> bytes:
    """The content of a .tflite file with these tables."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(tables.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _with(files: Files, name: str, content: bytes, part: Callable[[dict[str, Any]], dict[str, Any]]) -> Files:
    manifest = json.loads(files[MANIFEST])
    part(manifest)["sha256"] = sha256(content)
    return {**files, name: content, MANIFEST: json.dumps(manifest).encode()}


def _change(tables: Any, rng: random.Random) -> None:
    for _ in range(50):  # a change may not fit its field
        graph = tables.subgraphs[0] if tables.subgraphs else tables
        parts = [getattr(graph, name, None) for name in ("operators", "operators", "tensors", "tensors")]
        places = list(_places(rng.choice([tables, tables.operatorCodes, graph, *parts]), rng))
        if not places:
            continue
        owner, key, value = rng.choice(places)
        try:
            changed = rng.randrange(210) if key == "builtinCode" else _changed(value, rng)
            before = copy.copy(owner)
            if isinstance(owner, list):
                owner[key] = changed
            else:
                setattr(owner, key, changed)
            if key == "builtinCode":
                owner.deprecatedBuiltinCode = min(changed, 127)
            pack(tables)
        except (TypeError, ValueError, struct.error, AttributeError, OverflowError, IndexError):
            if isinstance(owner, list):
                owner[:] = before
            else:
                setattr(owner, key, value)
        else:
            return


def _places(table: Any, rng: random.Random) -> Iterator[tuple[Any, Any, Any]]:
    """The fields of tables, and the elements of vectors; of long vectors three elements."""
    if isinstance(table, np.ndarray | bytes) or not (isinstance(table, list) or hasattr(table, "__dict__")):
        return
    pairs = list(enumerate(table)) if isinstance(table, list) else list(vars(table).items())
    if isinstance(table, list) and len(pairs) > 64:
        pairs = rng.sample(pairs, 3)
    for key, value in pairs:
        yield table, key, value
        yield from _places(value, rng)


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return rng.choice((None, [], value[:-1], value + value[-1:], value[::-1], value * 2, value[1:]))
    if isinstance(value, bytes):
        return rng.choice((None, b"", value[:-1], value * 40))
    if isinstance(value, bool):
        return not value
    if isinstance(value, float | np.floating):
        return rng.choice([*FLOATS, 0.0, -1.0, value * 1e6, value * 1e-6, -value])
    if isinstance(value, int | np.integer):
        near = [value + 1, value - 1, value * 2, rng.randrange(64), rng.randrange(210)]
        return int(rng.choice([*near, 0, -1, 2, 127, -128, 2**15, 2**31 - 1, -(2**31), 2**32 - 1, 2**40]))
    if value is None:
        return rng.choice(([0], [1], [-1], b"x", [1, 2, 3, 4]))
    return None


def _manifest(files: Files, rng: random.Random) -> Files:
    manifest = json.loads(files[MANIFEST])
    for _ in range(rng.choice((1, 1, 2))):
        owner, key, value = rng.choice(list(_keys(manifest)))
        if rng.random() < 0.1:
            owner.pop(key)
        else:
            near: list[Any] = [value * 2, -value, value + 1, value - 1] if isinstance(value, int | float) else []
            owner[key] = rng.choice([*near, *NUMBERS, *FLOATS, *OTHERS])
    return {**files, MANIFEST: json.dumps(manifest).encode()}


def _keys(part: Any) -> Iterator[tuple[Any, Any, Any]]:
    for key, value in list(part.items() if isinstance(part, dict) else enumerate(part)):
        yield part, key, value
        if isinstance(value, dict | list):
            yield from _keys(value)


def _manifest_bytes(files: Files, rng: random.Random) -> Files:
    text = files[MANIFEST]
    at = rng.randrange(len(text))
    return {
        **files,
        MANIFEST: rng.choice(
            (
                flipped(text, rng),
                text[:at],
                text[:at] + b"\xff\xfe" + text[at:],
                b"[" * 100_000,
                b'{"a":' * 20_000,
                b"\xef\xbb\xbf" + text,
                text.decode().encode("utf-16"),
                text.replace(b"16000", b"1" * 5000),
                text.replace(b"16000", b"1e400"),
                text.replace(b"demo-fan", b"\\ud800"),
                text.replace(b'"schema"', b'"schema": 1, "schema"'),
                text * 2,
            )
        ),
    }


def _statistics_bytes(files: Files, rng: random.Random) -> Files:
    content = files[STATISTICS]
    archive = [at for at in range(len(content)) if at < 200 or at > len(content) - 700]
    return with_statistics(
        files, rng.choice((flipped(content, rng), flipped(content, rng, where=archive), content[: rng.randrange(len(content))]))
    )


def _statistics_archive(files: Files, rng: random.Random) -> Files:
    """An archive whose members have other headers, flags, compression or content."""
    with zipfile.ZipFile(io.BytesIO(files[STATISTICS])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    members[name] = rng.choice((_header, _member))(members[name], rng)
    if rng.random() < 0.1:
        members.pop(name)
    buffer = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for key, content in members.items():
            archive.writestr(key, content)
            if rng.random() < 0.02:
                archive.writestr(key, content)
    changed = bytearray(buffer.getvalue())
    if rng.random() < 0.5:  # a field of a local or central header: flags, method, sizes, offsets
        signature = rng.choice((b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"))
        at = changed.find(signature, rng.randrange(len(changed))) if rng.random() < 0.7 else changed.find(signature)
        if at >= 0:
            at += rng.randrange(4, 46)
            changed[at % len(changed)] = rng.choice((0, 1, 8, 12, 14, 0x7F, 0xFF, rng.randrange(256)))
    if rng.random() < 0.3:
        changed = bytearray(flipped(bytes(changed), rng))
    return with_statistics(files, bytes(changed))


def _header(member: bytes, rng: random.Random) -> bytes:
    shape = rng.choice(
        (
            "()",
            "(64,)",
            "(-1,)",
            "(0,)",
            "(64, 10**9)",
            "(9223372036854775807,)",
            "(1000000000000,)",
            "(64.0,)",
            "('64',)",
            "(True,)",
            "64",
            "(" * 3000,
            "[64]",
        )
    )
    descr = rng.choice(
        (
            "'<f4'",
            "'|O'",
            "'<f8'",
            "'<c16'",
            "'<M8[ns]'",
            "'<U9'",
            "'|V4'",
            "[('a', '<f4')]",
            "'|S0'",
            "'>f4'",
            "'f'",
            "'f4,f4'",
            "None",
            "5",
            "'\\ud800'",
            "[['a']]",
        )
    )
    text = rng.choice(
        (
            f"{{'descr': {descr}, 'fortran_order': {rng.choice(('True', 'False', '1', 'None'))}, 'shape': {shape}}}",
            "{}",
            "[" * 5000,
            "__import__('os')",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (64,), }" + " " * 70000,
            "{" + "-" * 5000 + "1: 2}",
            "\x00" * 50,
            "'" + "a" * 100,
        )
    ).encode("utf-8", "surrogatepass")
    version = rng.choice((1, 1, 2, 3, 9))
    length = struct.pack("<H", len(text) & 0xFFFF) if version == 1 else struct.pack("<I", rng.choice((len(text), 2**32 - 1)))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + member[128:]


def _member(member: bytes, rng: random.Random) -> bytes:
    array = np.load(io.BytesIO(member))
    buffer = io.BytesIO()
    value = rng.choice((np.nan, np.inf, -1.0, 0.0, 1e-45, 3e38, -3e38))
    change = rng.randrange(6)
    if change == 0:
        np.save(buffer, np.full_like(array, value))
    elif change == 1:
        np.save(buffer, array.astype(rng.choice((np.float64, np.int8, np.complex64, "<U3", "M8[s]", "S4", bool))))
    elif change == 2:
        np.save(buffer, np.array([{}, 1], object), allow_pickle=True)
    elif change == 3:
        np.save(buffer, np.zeros(rng.choice(((0,), (1,), (64, 64), (3, 0, 2), (20_000_000,))), np.float32))
    elif change == 4:
        return rng.choice((b"", b"\x80\x04.", member[:-1], member[:9], member + b"x" * 99, flipped(member, rng)))
    else:
        flat = array.reshape(-1).copy()
        flat[rng.randrange(max(1, flat.size)) if flat.size else 0 :] = value
        np.save(buffer, flat.reshape(array.shape))
    return buffer.getvalue()


KINDS: Mapping[str, Callable[[Files, random.Random], Files]] = {
    "manifest-values": _manifest,
    "manifest-bytes": _manifest_bytes,
    "statistics-bytes": _statistics_bytes,
    "statistics-archive": _statistics_archive,
    "model-bytes": lambda files, rng: with_model(files, flipped(files[MODEL], rng, where=structure(files[MODEL]))),
    "model-tables": lambda files, rng: with_model(files, with_changed_table(files[MODEL], rng)),
}
