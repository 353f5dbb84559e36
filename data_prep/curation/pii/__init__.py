"""Personal data and secrets: found by rules, then dropped, masked or replaced by consistent pseudonyms."""
