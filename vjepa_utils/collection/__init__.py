"""Features of many clips: a folder of files and one table, made on one machine or on a cluster."""

from vjepa_utils.collection.collection import Collection as Collection
from vjepa_utils.collection.extraction import extract as extract
