"""Safetensors files: their layout, and the export of decoded weights in the source's dtype."""
