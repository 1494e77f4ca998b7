"""The figures of the panel."""
