"""Encoders: find a checkpoint, load it whole, and turn clips into features on their true grid."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
