"""What a projector, a detector and a light source promise, and the drivers that keep it."""
