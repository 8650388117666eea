"""Explore the latent space of a clip interactively, in a notebook or in one HTML file.

`components` packs features so that a browser can compare them, `prediction` pixels and what the
predictor recovered; `exploration` holds a clip with all of it, `page` writes it as one HTML file,
`widget` connects it to a kernel, and the files in `js` draw it in both.
"""

from vjepa_utils.explorer.exploration import Exploration as Exploration
from vjepa_utils.explorer.exploration import explore as explore
from vjepa_utils.explorer.exploration import look as look
