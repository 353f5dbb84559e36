"""What a model prefers about people, and above all how fine-tuning changed it."""
