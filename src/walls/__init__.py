"""See Through Walls: dead zones, saliency maps and their activity."""
