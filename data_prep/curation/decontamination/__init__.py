"""Training rows that hold items of an evaluation."""
