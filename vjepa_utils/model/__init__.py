"""Models as tensors in, tensors out: V-JEPA 2 and 2.1, positions, attention, devices."""
