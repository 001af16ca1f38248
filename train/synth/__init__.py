"""Synthetic sound: physically motivated machines, with faults that grow."""

from train.synth.fan import Fan
from train.synth.faults import FAULTS, Growth
from train.synth.gearbox import Gearbox
from train.synth.machine import Machine
from train.synth.pump import Pump
from train.synth.scene import Scene
from train.synth.valve import Valve

MACHINES = {"fan": Fan, "pump": Pump, "valve": Valve, "gearbox": Gearbox}

__all__ = ["FAULTS", "MACHINES", "Fan", "Gearbox", "Growth", "Machine", "Pump", "Scene", "Valve"]
