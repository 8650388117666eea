"""Can a point be tracked? Features compared between frames, a light head, and the measures of
TAP-Vid.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
