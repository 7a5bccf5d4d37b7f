"""Studies on sets of images: how real the synthetic ones look, measured against patients that were kept apart."""
