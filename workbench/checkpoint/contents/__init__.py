"""What a checkpoint holds: its layers, its models, and notes on them for the user."""
