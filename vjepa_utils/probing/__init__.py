"""What can be read from frozen features: probes, measured on recordings held out."""

from vjepa_utils.probing.classes import Probe as Probe
from vjepa_utils.probing.classes import accuracy as accuracy
from vjepa_utils.probing.classes import clip_features as clip_features
from vjepa_utils.probing.classes import train_probe as train_probe
from vjepa_utils.probing.layers import LayerProbes as LayerProbes
from vjepa_utils.probing.layers import probe as probe
from vjepa_utils.probing.recordings import hold_out as hold_out
from vjepa_utils.probing.recordings import showing_the_same as showing_the_same
from vjepa_utils.probing.targets import Target as Target
from vjepa_utils.probing.targets import labelled_clips as labelled_clips
from vjepa_utils.probing.targets import read_targets as read_targets
