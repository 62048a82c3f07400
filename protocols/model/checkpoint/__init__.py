"""Sparse layers of Hugging Face checkpoints, from a local folder: safetensors only, nothing is downloaded."""
