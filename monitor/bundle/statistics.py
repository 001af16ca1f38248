"""`statistics.npz`: a bundle's statistics of normal sound, as plain arrays without pickle."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

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
    shapes = _shapes(n_bands, features, n_components) | ({_FAST: (n_bands,)} if fast else {})
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if not isinstance(archive, NpzFile):
                raise BundleError("statistics must be an archive of arrays (.npz), got a single array")
            for group in _optional(n_bands, sample_rate_hz):
                if not group.keys().isdisjoint(archive.files):
                    shapes |= group
            if set(archive.files) != set(shapes):
                raise BundleError(
                    f"statistics must hold {', '.join(shapes)}, got {', '.join(sorted(archive.files)) or 'nothing'}"
                )
            arrays = {key: np.asarray(archive[key], np.float32) for key in shapes}
    except (OSError, ValueError, EOFError, TypeError, BadZipFile) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"statistics cannot be read: {error}") from error
    for key, shape in shapes.items():
        if key.endswith("_mean") and arrays[key].ndim == 2:  # one row per normal state
            shape = max(1, len(arrays[key])), *shape[1:]
        if arrays[key].shape != shape or not np.isfinite(arrays[key]).all():
            raise BundleError(f"statistics.{key} must be {shape} finite numbers, got {arrays[key].shape}")
        if key.endswith(_POSITIVE) and not (arrays[key] > 0).all():
            raise BundleError(f"statistics.{key} must be above 0, got {arrays[key].min():g}")
    normals = {feature.name: _normal(feature, arrays) for feature in features}
    typical, powers = (tuple(float(value) for value in arrays.get(key, ())) for key in ("typical", "powers"))
    expected = Reference(
        arrays["expected_mean_db"],
        arrays["expected_spread_db"],
        Levels(*(arrays[key] for key in _LEVELS)) if _LEVELS[0] in arrays else None,
        EnvelopeSpectra(*(arrays[key] for key in _ENVELOPE)) if _ENVELOPE[0] in arrays else None,
    )
    return Statistics(expected, normals, typical, powers, arrays.get(_RESPONSE), arrays.get(_FAST))


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


def _shapes(n_bands: int, features: Sequence[Feature], n_components: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"expected_mean_db": (n_bands,), "expected_spread_db": (n_bands,)}
    for feature in features:
        n = feature.n_values
        shapes |= dict(zip(_normal_keys(feature), ((1, n), (n,), (n, n), ()), strict=True))
    if n_components > 1:
        shapes |= {"typical": (n_components,), "powers": (n_components,)}
    return shapes


def _optional(n_bands: int, sample_rate_hz: int) -> tuple[dict[str, tuple[int, ...]], ...]:
    """Groups of optional arrays. A bundle contains either all arrays of a group or none."""
    return (
        {_RESPONSE: (n_bands,)},
        dict.fromkeys(_LEVELS, (n_bands,)),
        dict.fromkeys(_ENVELOPE, pooled_shape(sample_rate_hz)),
    )


def _normal_keys(feature: Feature) -> tuple[str, ...]:
    return tuple(f"{feature.name}_{part}" for part in ("mean", "scale", "whitening", "noise"))


def _normal(feature: Feature, arrays: Mapping[str, F32]) -> Normal:
    mean, scale, whitening, noise = (np.asarray(arrays[key], np.float64) for key in _normal_keys(feature))
    return Normal(mean, scale, whitening, float(noise))
