"""Pure mathematics: Hadamard transforms and pictures, noise, sensing masks, reconstruction, metrics."""
