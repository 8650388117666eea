from . import cuts as cuts
from . import sources as sources
