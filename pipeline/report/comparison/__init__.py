"""Several runs side by side: which is best, how sure that is, what it cost, and which setting mattered."""
