"""The package in a notebook: how sessions and jobs show there, and progress in cells."""
