"""Tests of what is known of families of models."""
