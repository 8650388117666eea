from . import heads as heads
from . import probes as probes
from .heads import Classification as Classification
from .heads import classify as classify
from .probes import Probe as Probe
from .probes import train_probe as train_probe
