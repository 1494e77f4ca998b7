"""The layer table of the panel."""
