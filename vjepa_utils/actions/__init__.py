"""Which action is it? The released classification heads, and clips whose classes are known."""

from vjepa_utils.actions.figures import action_bars as action_bars
from vjepa_utils.actions.figures import confusion as confusion
from vjepa_utils.actions.heads import READINGS as READINGS
from vjepa_utils.actions.heads import Classification as Classification
from vjepa_utils.actions.heads import Reading as Reading
from vjepa_utils.actions.heads import classify as classify
from vjepa_utils.actions.labelled import labelled_clips as labelled_clips
