from . import figures as figures
from . import masks as masks
from . import prediction as prediction
from .figures import recovery_curves as recovery_curves
from .figures import recovery_strip as recovery_strip
from .prediction import Recovery as Recovery
from .prediction import recover as recover
