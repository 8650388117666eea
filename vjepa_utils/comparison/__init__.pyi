from . import figures as figures
from . import one_grid as one_grid
from .figures import encoders_strip as encoders_strip
from .figures import similarity_strip as similarity_strip
from .one_grid import on_one_grid as on_one_grid
from .one_grid import similarity as similarity
from .one_grid import step_of as step_of
