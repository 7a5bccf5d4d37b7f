"""What is measured of shapes and textures: one segmenter and the same rules for real and synthetic images alike."""
