"""Explore the latent space of a clip, in a notebook or in one HTML file: `exploration` holds a clip
that `components` and `prediction` pack, `page` writes it, `widget` asks a kernel, `js` draws it.
"""

from vjepa_utils.explorer.exploration import Exploration as Exploration
from vjepa_utils.explorer.exploration import explore as explore
from vjepa_utils.explorer.exploration import look as look
