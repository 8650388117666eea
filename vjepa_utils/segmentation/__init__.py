"""Which thing is which? Masks that follow what was clicked, and how well they do."""

from vjepa_utils.segmentation.figures import animate_masks as animate_masks
from vjepa_utils.segmentation.figures import mask_strip as mask_strip
from vjepa_utils.segmentation.figures import object_colours as object_colours
from vjepa_utils.segmentation.figures import outlined as outlined
from vjepa_utils.segmentation.propagation import agreement as agreement
from vjepa_utils.segmentation.propagation import propagate as propagate
from vjepa_utils.segmentation.segment import Masks as Masks
from vjepa_utils.segmentation.segment import as_labels as as_labels
from vjepa_utils.segmentation.segment import segment as segment
