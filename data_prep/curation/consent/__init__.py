"""Drop rows whose licence or opt-out field forbids their use."""
