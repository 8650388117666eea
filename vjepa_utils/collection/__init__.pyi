from . import clips as clips
from . import cluster as cluster
from . import extraction as extraction
from . import storage as storage
from . import table as table
from . import work as work
from .collection import Collection as Collection
from .extraction import extract as extract
