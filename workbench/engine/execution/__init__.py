"""From a plan to an export: written unit by unit, read back and measured."""
