"""Find a checkpoint, fetch it, and check that every weight is there."""
