"""What the two networks are trained for: pure losses, and the objectives that put them together."""
