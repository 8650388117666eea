"""Explore the latent space of a clip interactively, in a notebook or in one HTML file.

Start with `explore`. `components` packs features so that a browser can compare them, `prediction`
what the predictor recovered; `exploration` holds a clip with both, `page` writes them as one HTML
file, `widget` connects them to a kernel in a notebook, and the files in `js` draw them in both.
"""

from vjepa_utils.explorer.exploration import Exploration as Exploration
from vjepa_utils.explorer.explore import explore as explore
from vjepa_utils.explorer.explore import look as look
