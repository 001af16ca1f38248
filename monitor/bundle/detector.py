"""Create the detector from a manifest and the statistics of a bundle."""

from collections.abc import Callable, Mapping
from typing import Literal

from monitor.bundle.manifest import DetectorSpec
from monitor.bundle.statistics import Statistics
from monitor.scoring.components import (
    Component,
    Detector,
    Distance,
    Feature,
    Modulation,
    Reconstruction,
    Spectrum,
    nothing_known,
)

_FEATURES: Mapping[str, Callable[[DetectorSpec, int], Feature]] = {
    "spectrum": lambda _, n_bands: Spectrum(n_bands),
    "modulation": lambda spec, n_bands: _modulation(spec, n_bands),
}


def make_features(spec: DetectorSpec, *, n_bands: int) -> list[Feature]:
    """The features that the distances use, in the order of the components."""
    return [_FEATURES[name](spec, n_bands) for name in spec.components if name in _FEATURES]


def make_detector(spec: DetectorSpec, *, error: Literal["mse", "mae"], n_bands: int, statistics: Statistics | None) -> Detector:
    """The detector. Without statistics it can compute sums, but its distances are meaningless."""
    features = {feature.name: feature for feature in make_features(spec, n_bands=n_bands)}

    def component(name: str) -> Component:
        if name not in features:
            return Reconstruction(error)
        feature = features[name]
        return Distance(feature, nothing_known(feature.n_values) if statistics is None else statistics.normals[name])

    typical = (1.0,) * len(spec.components) if statistics is None or not statistics.typical else statistics.typical
    powers = None if statistics is None else statistics.powers or None
    return Detector([component(name) for name in spec.components], typical=typical, powers=powers)


def _modulation(spec: DetectorSpec, n_bands: int) -> Feature:
    assert spec.modulation is not None
    return Modulation(n_bands=n_bands, n_groups=spec.modulation.n_groups, lags=spec.modulation.lags_frames)
