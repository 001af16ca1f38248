"""Commands that adapt a bundle to a machine at its place."""
