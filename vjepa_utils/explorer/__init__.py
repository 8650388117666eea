"""Explore the latent space of a clip interactively, in a notebook or in one HTML file.

Start with `explore`. `components` packs features so that a browser can compare them,
`exploration` holds a clip with its packed features, `page` writes them as one HTML file, `widget`
connects them to a kernel in a notebook, and `explorer.js` draws them in both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
