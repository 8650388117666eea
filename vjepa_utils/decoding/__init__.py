"""What does a latent hold, as pixels?"""

from vjepa_utils.decoding.decoder import PixelDecoder as PixelDecoder
