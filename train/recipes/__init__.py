"""Recipes: the shipped YAML files, and the model that validates them with the threshold methods."""
