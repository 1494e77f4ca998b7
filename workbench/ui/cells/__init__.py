"""What a notebook's cells show of a session, with a kernel and without."""
