"""The bundle's file format: reading, checking and writing. No learning, no audio."""

from monitor.bundle.load import Bundle, load_bundle
from monitor.bundle.manifest import Manifest

__all__ = ["Bundle", "Manifest", "load_bundle"]
