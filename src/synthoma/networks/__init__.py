"""Layers and networks: generators, discriminators, feature extractors. Plain tensors in, plain tensors out."""
