"""What a checkpoint holds: its layers, its models, and what a user should be told of them."""
