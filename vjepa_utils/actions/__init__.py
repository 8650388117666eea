"""Which action is it? Released heads, and probes of your own classes."""

from vjepa_utils.actions.figures import action_bars as action_bars
from vjepa_utils.actions.figures import confusion as confusion
from vjepa_utils.actions.heads import READINGS as READINGS
from vjepa_utils.actions.heads import Classification as Classification
from vjepa_utils.actions.heads import Reading as Reading
from vjepa_utils.actions.heads import classify as classify
from vjepa_utils.actions.labelled import labelled_clips as labelled_clips
from vjepa_utils.actions.probes import Probe as Probe
from vjepa_utils.actions.probes import train_probe as train_probe
