"""Seeing inside a model: one file per group of figures, each drawn from a bundle and backed by a table."""
