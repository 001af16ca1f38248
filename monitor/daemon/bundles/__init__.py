"""The bundles that a node uses: configured ones, those adapted at the machine, and the child process that recalibrates."""
