"""The run: what is wanted, in which order it is played, what came back, and what it looks like."""
