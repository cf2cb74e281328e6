"""One optical bench and the stand-ins at the wire that touch it. Tried on simulation only, by definition."""
