"""The errors a user can meet, each with the exit code of the command that raised it.

0 done, 2 config, usage or data, 3 diverged, 4 too many bad videos, 75 preempted (resumable), 130 interrupted.
"""


class NlnetError(Exception):
    """Base of all errors whose message alone is meant for the user: printed without a traceback."""

    exit_code = 2


class ConfigError(NlnetError):
    """A config key, value or combination that cannot work. The message names the key and the mend."""


class FolderInUse(ConfigError):
    """The run folder belongs to another run, or to another process: its status is not ours to write."""


class DataError(NlnetError):
    """An annotation file or data folder that cannot be used. The message names the file and the line."""


class CheckpointError(NlnetError):
    """A checkpoint that is missing, damaged or does not fit. The message names the file."""


class ExportError(NlnetError):
    """An exported file that does not compute what the network computes. The message names the file."""


class OutOfMemory(NlnetError):
    """Memory ran out. The message names the options that need less."""


class Diverged(NlnetError):
    """The loss or its gradient is no longer a finite number."""

    exit_code = 3


class Preempted(NlnetError):
    """A signal asked the run to stop; the same command goes on."""

    exit_code = 75


class TooManyBadVideos(NlnetError):
    """More videos than ``data.max_bad_fraction`` allows could not be decoded in training."""

    exit_code = 4


class VideoError(NlnetError):
    """One video cannot be decoded. Carries the path and the reason, so that it can be counted and listed."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def message_of(error: NlnetError) -> str:
    """What an error says to the user, in one line."""
    text = str(error)
    if text.startswith("Caught "):  # raised in a loader's worker: a traceback whose last line is "class: message"
        text = text.rstrip().rpartition("\n")[2].partition(": ")[2]
    return text
