"""What is measured: log-likelihoods and text overlap."""
