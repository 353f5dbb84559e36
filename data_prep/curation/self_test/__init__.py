"""Cases with a known answer, planted into the user's own rows, to measure what the filter finds."""
