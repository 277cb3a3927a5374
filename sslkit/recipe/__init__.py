"""Recipes: YAML in, strict typed settings out."""
