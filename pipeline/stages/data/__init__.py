"""One data set, read into canonical rows and split."""
