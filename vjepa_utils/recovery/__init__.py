"""What does the predictor recover when part of the clip is hidden?"""

from vjepa_utils.predict import masks as masks
from vjepa_utils.predict.recovery import Held as Held
from vjepa_utils.predict.recovery import Recovery as Recovery
from vjepa_utils.recovery.edit import Edit as Edit
from vjepa_utils.recovery.edit import edit as edit
from vjepa_utils.recovery.edit import edit_strip as edit_strip
from vjepa_utils.recovery.figures import recovery_curves as recovery_curves
from vjepa_utils.recovery.figures import recovery_strip as recovery_strip
