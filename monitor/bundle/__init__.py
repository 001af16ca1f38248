"""Bundles: what `train` hands to `monitor`."""

from monitor.bundle.load import Bundle, load_bundle
from monitor.bundle.manifest import Manifest

__all__ = ["Bundle", "Manifest", "load_bundle"]
