"""Can a point be tracked? Features compared between frames, a light head, and the measures of
TAP-Vid.
"""

from vjepa_utils.tracking.figures import animate_tracks as animate_tracks
from vjepa_utils.tracking.figures import track_strip as track_strip
from vjepa_utils.tracking.head import TrackHead as TrackHead
from vjepa_utils.tracking.head import load_head as load_head
from vjepa_utils.tracking.matching import match as match
from vjepa_utils.tracking.matching import sample as sample
from vjepa_utils.tracking.matching import soft_argmax as soft_argmax
from vjepa_utils.tracking.metrics import tapvid_metrics as tapvid_metrics
from vjepa_utils.tracking.points import Tracks as Tracks
from vjepa_utils.tracking.points import grid_points as grid_points
from vjepa_utils.tracking.points import track as track
