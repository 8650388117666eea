"""What does a latent hold, as pixels?"""

from vjepa_utils.decoding.decoder import PixelDecoder as PixelDecoder
from vjepa_utils.decoding.figures import by_layer as by_layer
from vjepa_utils.decoding.figures import expected as expected
from vjepa_utils.decoding.figures import recovered as recovered
from vjepa_utils.decoding.pixels import agreement as agreement
from vjepa_utils.decoding.pixels import copied as copied
from vjepa_utils.decoding.pixels import raw_colours as raw_colours
