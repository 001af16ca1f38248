"""The detector: what the model saw and predicted in, one number per segment out."""

from monitor.core.detector.component import Component, Observation
from monitor.core.detector.detector import Detector
from monitor.core.detector.reconstruction import Reconstruction

__all__ = ["Component", "Detector", "Observation", "Reconstruction"]
