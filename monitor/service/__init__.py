"""The shell around the core: wiring, files, time and signals."""
