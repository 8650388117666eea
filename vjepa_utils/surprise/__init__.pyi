from . import figures as figures
from . import prediction as prediction
from .figures import animate_surprise as animate_surprise
from .figures import surprise_strip as surprise_strip
from .prediction import Surprise as Surprise
from .prediction import surprise as surprise
