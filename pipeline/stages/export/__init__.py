"""A trained model in the forms that other programs read: safetensors, GGUF, an Ollama Modelfile."""
