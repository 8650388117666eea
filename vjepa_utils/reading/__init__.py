"""Files and folders to frames, and where the cuts are."""
