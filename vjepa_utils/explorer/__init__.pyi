from . import components as components
from . import exploration as exploration
from . import page as page
from .exploration import Exploration as Exploration
from .exploration import explore as explore
from .exploration import look as look
