"""Folds: channel scales moved into the preceding layer, exactly."""
