"""Capture of what the layers of a running model are given, step by step."""
