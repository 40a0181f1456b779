"""Where the processes of a run are started: here, or as a job of Slurm.

A launcher takes the arguments of ``nlnet`` (a verb and its overrides) and starts them in as many processes as it has.
"""

from nlnet.launch.jobs import Job, Launcher
from nlnet.launch.local import Local
from nlnet.launch.slurm import Slurm

__all__ = ["Job", "Launcher", "Local", "Slurm"]
