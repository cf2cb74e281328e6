"""What a run was, on one page for people and as JSON for programs."""
