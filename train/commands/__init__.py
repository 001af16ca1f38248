"""The commands of `train`, one module each: `add` declares it, `_run` does it."""
