"""Folds that make a checkpoint easier to quantize: found, recorded and written."""
