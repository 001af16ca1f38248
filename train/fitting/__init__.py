"""From a data set and a recipe, or from a foreign model, to a bundle."""
