"""What the training stages share: models and adapters, checkpoints that are whole or not there, the per-step log."""
