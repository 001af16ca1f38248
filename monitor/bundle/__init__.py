"""The bundle's file format: read, check and write. No learning, no audio."""

from monitor.bundle.load import Bundle, load_bundle
from monitor.bundle.manifest import Manifest

__all__ = ["Bundle", "Manifest", "load_bundle"]
