"""What is where in the latent space? Look around with the hand, in a notebook and in one file.

`explore` is the way in. `components` packs features so that a browser can compare them,
`exploration` holds a clip with its packed features, `page` writes them as one HTML file, `widget`
brings them to life in a notebook, and `explorer.js` draws them in both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
