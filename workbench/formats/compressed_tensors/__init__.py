"""compressed-tensors: safetensors as vLLM and transformers read them."""
