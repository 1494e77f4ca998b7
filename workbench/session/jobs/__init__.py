"""Work in the background: a job, the export, the validation."""
