"""An export proved against its source, by this workbench and by the runtime's own package."""
