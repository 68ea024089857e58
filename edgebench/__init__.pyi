from edgebench.api import Replayed as Replayed
from edgebench.api import Run as Run
from edgebench.api import TopologyFile as TopologyFile
from edgebench.api import capacity as capacity
from edgebench.api import clean as clean
from edgebench.api import compare as compare
from edgebench.api import export as export
from edgebench.api import fidelity as fidelity
from edgebench.api import init as init
from edgebench.api import join as join
from edgebench.api import lab_invite as lab_invite
from edgebench.api import lab_invite_device as lab_invite_device
from edgebench.api import lab_list as lab_list
from edgebench.api import lab_refusals as lab_refusals
from edgebench.api import lab_remove as lab_remove
from edgebench.api import lab_serve as lab_serve
from edgebench.api import list_tasks as list_tasks
from edgebench.api import list_topologies as list_topologies
from edgebench.api import load as load
from edgebench.api import load_placement as load_placement
from edgebench.api import load_run as load_run
from edgebench.api import place as place
from edgebench.api import profile as profile
from edgebench.api import replay as replay
from edgebench.api import run as run
from edgebench.api import schema as schema
from edgebench.api import simulate as simulate
from edgebench.api import sweep as sweep
from edgebench.api import train as train
from edgebench.api import validate as validate
from edgebench.errors import EdgebenchError as EdgebenchError

__all__: list[str]
__version__: str
