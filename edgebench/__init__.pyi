from edgebench.api import Run as Run
from edgebench.api import TopologyFile as TopologyFile
from edgebench.api import load as load
from edgebench.api import load_run as load_run
from edgebench.api import run as run
from edgebench.api import train as train
from edgebench.api import validate as validate
from edgebench.errors import EdgebenchError as EdgebenchError

__all__: list[str]
__version__: str
