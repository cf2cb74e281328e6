"""The live view: what it shows, and the server that shows it."""
