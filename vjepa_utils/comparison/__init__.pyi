from . import one_grid as one_grid
from .one_grid import on_one_grid as on_one_grid
from .one_grid import similarity as similarity
from .one_grid import step_of as step_of
