"""Made sound: a physically reasoned fan, and faults that grow in it."""

from train.synth.fan import Fan
from train.synth.faults import FAULTS, Growth
from train.synth.scene import Scene

__all__ = ["FAULTS", "Fan", "Growth", "Scene"]
