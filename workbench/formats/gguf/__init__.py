"""GGUF: llama.cpp's file format, which ComfyUI and diffusers read too."""
