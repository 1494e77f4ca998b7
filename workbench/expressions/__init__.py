"""Filters and formulas over the layers' columns."""
