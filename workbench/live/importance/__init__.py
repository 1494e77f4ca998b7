"""Importance: how much the output of a denoiser feels an error in each of its layers."""
