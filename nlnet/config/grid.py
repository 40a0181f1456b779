"""The grid of a command line: which overrides have several values, in Hydra's grammar of overrides."""

from collections.abc import Sequence
from fnmatch import fnmatch

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException

from nlnet.config.compose import group_options
from nlnet.errors import ConfigError


def split_grid(overrides: Sequence[str], *, config_dir: str | None = None) -> tuple[list[str], dict[str, list[str]]]:
    """Overrides -> those with one value, as they are, and {key: its values} of the others.

    ``key=a,b``, ``choice(a,b)``, ``range(1,4)`` and, for options of a group, ``glob(one_*)``. The last one of a key
    counts.

    Raises:
        ConfigError: not Hydra's grammar, or values without number.
    """
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    for text in overrides:
        try:
            parsed = OverridesParser.create().parse_override(text)
        except HydraException as error:
            raise ConfigError(f"'{text}': not an override: {str(error).splitlines()[0]}") from error
        if parsed.is_sweep_override():
            axes[parsed.get_key_element()] = _values(parsed, text, config_dir)
        else:
            fixed.append(text)
    return fixed, axes


def _values(parsed: Override, text: str, config_dir: str | None) -> list[str]:
    value = parsed.value()
    if isinstance(value, Glob):
        options = group_options(parsed.key_or_group, config_dir=config_dir)
        included = [name for name in options if any(fnmatch(name, pattern) for pattern in value.include)]
        values = [name for name in included if not any(fnmatch(name, pattern) for pattern in value.exclude)]
    elif parsed.is_choice_sweep() or parsed.is_range_sweep():
        values = list(parsed.sweep_string_iterator())
    else:
        raise ConfigError(f"'{text}': a grid needs values that can be counted: a,b or range(1,4)")
    if not values:
        raise ConfigError(f"'{text}': fits no option")
    if len(set(values)) != len(values):
        raise ConfigError(f"'{text}': a value stands there twice")
    return values
