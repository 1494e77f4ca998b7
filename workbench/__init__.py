"""ArrowQuant Workbench."""
