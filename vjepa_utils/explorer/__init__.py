"""The explorer: look around in the latent space of a clip, in a notebook and in one HTML file.

`explore` is the way in. `components` packs features so that a browser can compare them, `exploration`
holds a clip with its packed features and writes the page, `widget` brings it to life in a notebook, and
`explorer.js` draws it in both.
"""

from vjepa_utils.explorer.exploration import Exploration, explore

__all__ = ["Exploration", "explore"]
