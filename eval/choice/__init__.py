"""Multiple choice, classification by label words and cloze words: by log-likelihood or by generation."""
