"""Training: configuration, classifiers, the loop and its files (extra `train`)."""
