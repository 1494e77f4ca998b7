"""Readers of tensors: of files, and around other readers."""
