"""MLX: safetensors as mlx-lm and mx.load read them."""
