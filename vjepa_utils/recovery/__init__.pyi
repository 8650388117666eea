from . import masks as masks
from . import prediction as prediction
from .prediction import Recovery as Recovery
from .prediction import recover as recover
