"""Grouped affine codes: a scale a group, and a real zero point, an integer one, or an offset."""
