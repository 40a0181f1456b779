"""The parser of a verb's command line: its errors are one line, with the mend, as those of configs are."""

import argparse
import re
from difflib import get_close_matches
from typing import NoReturn

from nlnet.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """``argparse`` for a verb that takes options and ``key=value`` overrides.

    Raises:
        ConfigError: where argparse would print its usage and leave.
    """

    def error(self, message: str) -> NoReturn:
        more = f" ({self.prog} --help tells more)"
        if match := re.match(r"unrecognized arguments: (\S+)", message):
            raise ConfigError(self._unknown(match[1]) + more)
        raise ConfigError(message.removesuffix(", key=value") + more)  # overrides are never required

    def _unknown(self, word: str) -> str:
        option, _, _ = word.partition("=")
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        text = f"{option}: no such option"
        if near := get_close_matches(option, known, n=1, cutoff=0.75):
            return f"{text}; did you mean '{near[0]}'?"
        from nlnet.config.compose import all_keys, compose
        from nlnet.config.schema import nearest

        if any(action.dest == "overrides" for action in self._actions):
            keys = all_keys(compose("train", []))
            text += (
                f"; config keys are written without dashes, as in trainer.epochs=5{nearest(option.strip('-'), keys)}"
            )
        return text
