"""A model's folder: where its weights are, and what else belongs to it."""
