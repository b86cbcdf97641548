"""The only place that starts a backup tool: in a jail, with time-outs, limits, redaction."""

from backupguard.processes.cancellation import Cancellation
from backupguard.processes.jail import Jail
from backupguard.processes.owner import become_owner
from backupguard.processes.programs import find_program

__all__ = ["Cancellation", "Jail", "become_owner", "find_program"]
