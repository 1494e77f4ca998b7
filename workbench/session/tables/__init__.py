"""The tables of a session: what is known of each layer, and what the present plan makes of it."""
