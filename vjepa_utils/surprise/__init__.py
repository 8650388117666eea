"""Where and when does a clip violate what the predictor expects?"""

from vjepa_utils.predict.surprise import Surprise as Surprise
from vjepa_utils.surprise.figures import animate_surprise as animate_surprise
from vjepa_utils.surprise.figures import surprise_strip as surprise_strip
