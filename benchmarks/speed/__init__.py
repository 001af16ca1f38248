"""Time, memory and processor load, each as a ratio to a peer or a floor in the same run."""
