"""The detector and its components: they turn model input and prediction into one number per segment."""

from monitor.scoring.components.component import Component, Feature, Observation
from monitor.scoring.components.detector import Detector
from monitor.scoring.components.modulation import Modulation
from monitor.scoring.components.normal import Distance, Normal, fit_normal, least_spread_db, nothing_known
from monitor.scoring.components.reconstruction import Reconstruction
from monitor.scoring.components.spectrum import Spectrum

__all__ = [
    "Component",
    "Detector",
    "Distance",
    "Feature",
    "Modulation",
    "Normal",
    "Observation",
    "Reconstruction",
    "Spectrum",
    "fit_normal",
    "least_spread_db",
    "nothing_known",
]
