"""Recipes: everything that a training run depends on, as validated YAML. They import no training library."""
