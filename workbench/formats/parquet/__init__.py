"""Parquet: the archive that holds any width, read by workbench.load and by any Parquet reader."""
