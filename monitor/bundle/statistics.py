"""`statistics.npz`: a bundle's statistics of normal sound, as plain arrays without pickle."""

import io
import math
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np

from monitor.arrays import F32
from monitor.errors import BundleError
from monitor.explain.envelope import pooled_shape
from monitor.explain.reference import EnvelopeSpectra, Levels, Reference
from monitor.scoring.components import Feature, Normal

_NONE: Mapping[str, Normal] = MappingProxyType({})
_RESPONSE = "response_db"
_FAST = "fast_ceiling_db"
_LEVELS = ("power_mean_db", "power_spread_db", "power_contrast_spread_db")
_ENVELOPE = ("envelope_mean_db", "envelope_spread_db")
OPTIONAL = ((_RESPONSE,), _LEVELS, _ENVELOPE)  # groups of arrays of which a bundle contains either all or none
MAX_STATES = 16
MAX_VALUE, MAX_POWER = 1e6, 4.0  # so that a score cannot overflow
MAX_HEADER = 1024
# Version 1.0 of the format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype><f[48])', 'fortran_order': False, 'shape': \((?P<shape>[\d, ]{0,60})\), \} *\n",
    re.DOTALL,
)
Shape: TypeAlias = tuple[int, ...]
_POSITIVE = ("_spread_db", "typical", "powers", "_scale")  # arrays whose names end like this must be above 0


@dataclass(frozen=True)
class Statistics:
    """The reference of normal sound, the normal values by feature name, and the typical raw number of each component.

    `typical` is empty if there is only one component, whose raw number is the score. `response_db` (n_bands,) is the
    response of the microphone in use relative to that of training. It is included in `expected`.
    """

    expected: Reference
    normals: Mapping[str, Normal]
    typical: tuple[float, ...]
    powers: tuple[float, ...] = ()  # exponents of the components' ratios to their typical numbers
    response_db: F32 | None = None
    fast_ceiling_db: F32 | None = None  # (n_bands,), if there is a fast path


def read_statistics(
    content: bytes,
    *,
    n_bands: int,
    sample_rate_hz: int,
    features: Sequence[Feature] = (),
    n_components: int = 1,
    fast: bool = False,
) -> Statistics:
    """The statistics of a bundle. BundleError names an array that is missing, has a wrong shape or is not finite."""
    shapes = statistics_shapes(
        n_bands=n_bands, sample_rate_hz=sample_rate_hz, features=features, n_components=n_components, fast=fast
    )
    arrays = _read_arrays(content, shapes)
    for key, array in arrays.items():
        if key.endswith(_POSITIVE) and not (array > 0).all():
            raise BundleError(f"statistics.{key} must be above 0, got {array.min():g}")
        largest = MAX_POWER if key == "powers" else MAX_VALUE
        if (np.abs(array) > largest).any() or (key.endswith(_POSITIVE) and (array < 1.0 / largest).any()):
            raise BundleError(f"statistics.{key} must be at most {largest:g}, and above 0 at least {1 / largest:g}")
    normals = {feature.name: _normal(feature, arrays) for feature in features}
    typical, powers = (tuple(float(value) for value in arrays.get(key, ())) for key in ("typical", "powers"))
    expected = Reference(
        arrays["expected_mean_db"],
        arrays["expected_spread_db"],
        Levels(*(arrays[key] for key in _LEVELS)) if _LEVELS[0] in arrays else None,
        EnvelopeSpectra(*(arrays[key] for key in _ENVELOPE)) if _ENVELOPE[0] in arrays else None,
    )
    return Statistics(expected, normals, typical, powers, arrays.get(_RESPONSE), arrays.get(_FAST))


def _read_arrays(content: bytes, shapes: Mapping[str, Shape]) -> dict[str, F32]:
    """The arrays of an archive, read with the sizes that they must have, so that a crafted archive cannot grow."""
    try:
        with ZipFile(io.BytesIO(content)) as archive:
            names = sorted(name.removesuffix(".npy") for name in archive.namelist())
            optional = [group for group in OPTIONAL if set(group).isdisjoint(names)]
            wanted = [key for key in shapes if not any(key in group for group in optional)]
            if names != sorted(wanted):
                got = ", ".join(names)[:200] if len(names) < 50 else f"{len(names)} arrays"
                raise BundleError(f"statistics must hold {', '.join(wanted)}, got {got or 'nothing'}")
            return {key: _read_array(archive, key, shapes[key]) for key in wanted}
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile, zlib.error, struct.error, KeyError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"statistics cannot be read: {str(error)[:200]}") from error


def _read_array(archive: ZipFile, key: str, shape: Shape) -> F32:
    """An array as `numpy.save` writes it: float32 (or float64), finite, of this shape, of which -1 may be up to MAX_STATES."""
    member = archive.getinfo(f"{key}.npy")
    n_max = math.prod(MAX_STATES if side == -1 else side for side in shape)
    if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or member.file_size > 8 * n_max + MAX_HEADER:
        raise BundleError(
            f"statistics.{key} must be {shape} finite numbers, got {member.file_size} bytes, compression {member.compress_type}"
        )
    content = archive.read(member)
    header = _HEADER.match(content[:MAX_HEADER])
    if header is None:
        raise BundleError(f"statistics.{key} must be an array of float32, in the order of C, got {content[10:80]!r}")
    dtype = np.dtype(header["dtype"].decode())
    sides = tuple(int(side) for side in header["shape"].replace(b",", b" ").split())
    start = 10 + int.from_bytes(content[8:10], "little")
    if shape[:1] == (-1,):
        shape = min(MAX_STATES, max(1, sides[0] if sides else 1)), *shape[1:]
    problem = f"statistics.{key} must be {shape} finite numbers, got {sides[:9]}"
    if sides != shape or len(content) != start + dtype.itemsize * math.prod(sides):
        raise BundleError(problem)
    array = np.frombuffer(content, dtype, offset=start).reshape(sides)
    if not (np.abs(array) < np.finfo(np.float32).max).all():
        raise BundleError(problem)
    return array.astype(np.float32)


def write_statistics(
    expected: Reference,
    *,
    normals: Mapping[str, Normal] = _NONE,
    typical: Sequence[float] = (),
    powers: Sequence[float] = (),
    response_db: F32 | None = None,
    fast_ceiling_db: F32 | None = None,
) -> bytes:
    """The content of `statistics.npz`. The same arrays always give the same bytes."""
    arrays = {"expected_mean_db": expected.mean_db, "expected_spread_db": expected.spread_db}
    for keys, part in ((_LEVELS, expected.levels), (_ENVELOPE, expected.envelope)):
        arrays |= {} if part is None else dict(zip(keys, vars(part).values(), strict=True))
    for name, normal in normals.items():
        arrays |= {f"{name}_{part}": np.asarray(value, np.float32) for part, value in vars(normal).items()}
    if typical:
        arrays["typical"] = np.array(typical, np.float32)
    if powers:
        arrays["powers"] = np.array(powers, np.float32)
    if response_db is not None:
        arrays[_RESPONSE] = response_db
    if fast_ceiling_db is not None:
        arrays[_FAST] = fast_ceiling_db
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def statistics_shapes(
    *, n_bands: int, sample_rate_hz: int, features: Sequence[Feature], n_components: int, fast: bool, n_states: int = -1
) -> dict[str, Shape]:
    """The shapes of all arrays, optional ones included; -1 stands for the number of normal states unless it is given."""
    shapes: dict[str, Shape] = dict.fromkeys(("expected_mean_db", "expected_spread_db"), (n_bands,))
    for feature in features:
        n = feature.n_values
        shapes |= dict(zip(_normal_keys(feature), ((n_states, n), (n,), (n, n), ()), strict=True))
    shapes |= dict.fromkeys(("typical", "powers") if n_components > 1 else (), (n_components,))
    shapes |= dict.fromkeys((*((_FAST,) if fast else ()), _RESPONSE, *_LEVELS), (n_bands,))
    return shapes | dict.fromkeys(_ENVELOPE, pooled_shape(sample_rate_hz))


def _normal_keys(feature: Feature) -> tuple[str, ...]:
    return tuple(f"{feature.name}_{part}" for part in ("mean", "scale", "whitening", "noise"))


def _normal(feature: Feature, arrays: Mapping[str, F32]) -> Normal:
    mean, scale, whitening, noise = (np.asarray(arrays[key], np.float64) for key in _normal_keys(feature))
    return Normal(mean, scale, whitening, float(noise))
