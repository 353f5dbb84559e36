"""OpenAI-compatible servers: how they are reached, and answers of a served model."""
