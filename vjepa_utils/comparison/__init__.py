"""How do encoders compare on one clip?"""

from vjepa_utils.comparison.figures import encoders_strip as encoders_strip
from vjepa_utils.comparison.figures import similarity_strip as similarity_strip
from vjepa_utils.comparison.measures import cka as cka
from vjepa_utils.comparison.measures import layers_figure as layers_figure
from vjepa_utils.comparison.measures import measures as measures
from vjepa_utils.comparison.measures import numbers_table as numbers_table
from vjepa_utils.comparison.measures import on_one_grid as on_one_grid
from vjepa_utils.comparison.measures import shared_neighbours as shared_neighbours
from vjepa_utils.comparison.measures import similarity as similarity
from vjepa_utils.comparison.measures import step_of as step_of
from vjepa_utils.comparison.stability import Stability as Stability
from vjepa_utils.comparison.stability import stability as stability
from vjepa_utils.comparison.stability import stability_figure as stability_figure
