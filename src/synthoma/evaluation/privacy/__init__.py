"""Whether synthetic images give away who was in the training set: copies, authenticity, attacks, canaries."""
