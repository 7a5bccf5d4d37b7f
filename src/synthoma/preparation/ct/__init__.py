"""From CT volumes and radiologists' marks to cubes and slices in Hounsfield units."""
