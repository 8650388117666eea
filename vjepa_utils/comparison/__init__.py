"""How do encoders compare on one clip?"""

from vjepa_utils.comparison.figures import encoders_strip as encoders_strip
from vjepa_utils.comparison.figures import similarity_strip as similarity_strip
from vjepa_utils.comparison.one_grid import on_one_grid as on_one_grid
from vjepa_utils.comparison.one_grid import similarity as similarity
from vjepa_utils.comparison.one_grid import step_of as step_of
