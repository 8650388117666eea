"""Which action is it? The released classification heads."""

from vjepa_utils.actions.figures import action_bars as action_bars
from vjepa_utils.actions.figures import confusion as confusion
from vjepa_utils.actions.heads import READINGS as READINGS
from vjepa_utils.actions.heads import Classification as Classification
from vjepa_utils.actions.heads import Reading as Reading
from vjepa_utils.actions.heads import classify as classify
