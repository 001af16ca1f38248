"""The detector: what the model saw and predicted in, one number per segment out."""

from monitor.core.detector.component import Component, Feature, Observation
from monitor.core.detector.detector import Detector
from monitor.core.detector.fit import CrossFit, Fitted, cross_fit, find_normal_states, fit_normals
from monitor.core.detector.modulation import Modulation
from monitor.core.detector.normal import Distance, Normal, fit_normal, least_spread_db, nothing_known
from monitor.core.detector.peaks import Peaks
from monitor.core.detector.reconstruction import Reconstruction
from monitor.core.detector.residual import Residual
from monitor.core.detector.spectrum import Shape, Spectrum

__all__ = [
    "Component",
    "CrossFit",
    "Detector",
    "Distance",
    "Feature",
    "Fitted",
    "Modulation",
    "Normal",
    "Observation",
    "Peaks",
    "Reconstruction",
    "Residual",
    "Shape",
    "Spectrum",
    "cross_fit",
    "find_normal_states",
    "fit_normal",
    "fit_normals",
    "least_spread_db",
    "nothing_known",
]
