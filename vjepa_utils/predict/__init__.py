"""What the model predicts of hidden tokens, and what copying would give."""

from vjepa_utils.predict import masks as masks
