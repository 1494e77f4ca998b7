"""Validation: a plan run in the model, predicted beside measured."""
