"""A language model compares two models' answers: both orders, counted failures, length control, a card of trust."""
