"""The model a run starts from, as a folder of safetensors with its tokenizer."""
