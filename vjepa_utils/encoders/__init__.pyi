from . import checkpoints as checkpoints
from . import encoder as encoder
from . import positions as positions
from . import vjepa2 as vjepa2
from .checkpoints import CHECKPOINTS as CHECKPOINTS
from .encoder import Encoder as Encoder
from .encoder import ImageEncoder as ImageEncoder
from .encoder import load_encoder as load_encoder
