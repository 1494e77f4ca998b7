"""The folder of an export: written aside, journalled, with its record and side files."""
