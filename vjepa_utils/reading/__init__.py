"""Files and folders to frames, and where the cuts are."""

RATE = 30  # frames a second, where there is no clock
