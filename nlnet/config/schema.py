"""What the values of a config may be: the types in the signature of a ``_target_``, and of the keys that have none."""

import difflib
import inspect
import logging
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object

from nlnet.errors import ConfigError

# Keys that belong to no ``_target_``. "data.clip.frames" and the like are numbers of their targets too.
TYPES: dict[str, Any] = {
    "name": str,
    "seed": int,
    "device": Literal["auto", "cpu", "cuda"],
    "workers": int | Literal["auto"],
    "tensorboard": bool,
    "keep_checkpoints": int,
    "runs": str,
    "init.path": str | None,
    "init.freeze": Sequence[str],
    "data.root": str,
    "data.clip.frames": int,
    "data.clip.stride": int,
    "data.test_short_side": int,
    "data.max_bad_fraction": float,
}
_GROUPS = (
    *("model", "optim", "schedule", "trainer", "batch_norm", "data", "data.clip", "data.augment", "data.views"),
    *("data.validation", "data.decoder", "data.normalize", "data.annotations"),
)
TYPES |= dict.fromkeys(_GROUPS, Mapping[str, Any])
# Numbers with a smallest value that no class checks.
LARGEST = {"data.max_bad_fraction": 1}
SMALLEST = {"seed": 0, "workers": 0, "keep_checkpoints": 1, "data.max_bad_fraction": 0, "data.test_short_side": 1}
NODE = "a group of keys"


def check_values(config: Mapping[str, Any]) -> None:
    """Refuses values of the wrong type in a resolved config, wherever a type says what is right.

    Raises:
        ConfigError: with the key, what it takes and what it has.
    """
    for key, hint in sorted(TYPES.items()):
        value: Any = config
        for part in key.split("."):
            value = value.get(part, _ABSENT) if isinstance(value, Mapping) else _ABSENT
        if value is not _ABSENT:
            _check_value(key, value, hint)
            if key in SMALLEST and isinstance(value, int | float) and value < SMALLEST[key]:
                raise ConfigError(f"{key}={value} must be at least {SMALLEST[key]}")
            if key in LARGEST and value > LARGEST[key]:
                raise ConfigError(f"{key}={value} must be at most {LARGEST[key]}")
    for key, value, hint in _typed_values(config, ""):
        _check_value(key, value, hint)


_ABSENT = object()


def _typed_values(node: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Key, value and type of everything below ``node`` that the signature of a target gives a type."""
    if isinstance(node, Sequence) and not isinstance(node, str):
        for index, child in enumerate(node):
            yield from _typed_values(child, f"{path}[{index}]")
    if not isinstance(node, Mapping):
        return
    hints = _hints(node["_target_"]) if node.get("_target_") else {}
    for name, value in node.items():
        key = f"{path}.{name}" if path else str(name)
        if name in hints:
            yield key, value, hints[name]
        yield from _typed_values(value, key)


def named(target: str) -> Any:
    """What a ``_target_`` names. Hydra also logs what it raises; the error alone is enough."""
    logging.disable(logging.CRITICAL)
    try:
        return get_object(target)
    finally:
        logging.disable(logging.NOTSET)


def _hints(target: str) -> dict[str, Any]:
    """The types of a target's parameters; none where they cannot be told, as in code without them."""
    try:
        found = named(target)
        if inspect.isclass(found) and "__init__" not in vars(found) and not hasattr(found, "__dataclass_fields__"):
            return {}
        of = found.__init__ if inspect.isclass(found) and "__init__" in vars(found) else found
        return get_type_hints(of)
    except Exception:  # other people's annotations may name what does not exist where they are read
        return {}


def _check_value(key: str, value: Any, hint: Any) -> None:
    if fits(value, hint):
        return
    text = f"{key} must be {describe(hint)}, not {value!r}"
    if isinstance(value, str):
        if NODE in text:
            text += f"; an option of a group is chosen as in {key.replace('.', '/')}={value}"
        text += nearest(value, [option for option in _options(hint) if isinstance(option, str)])
    raise ConfigError(text)


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value of a config may be given where ``hint`` is asked for. Nodes to be built always may."""
    origin = get_origin(hint)
    if hint is Any or (isinstance(value, Mapping) and ("_target_" in value or origin not in (Mapping, dict, *_UNION))):
        return True
    if origin in _UNION:
        return any(fits(value, part) for part in get_args(hint))
    if origin is Literal:
        return value in get_args(hint) and not isinstance(value, bool)
    if hint is None or hint is type(None):
        return value is None
    if hint is bool or hint is str:
        return isinstance(value, hint)
    if hint is int or hint is float:
        kinds = (int,) if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if _is_sequence(hint):
        inner = [part for part in get_args(hint) if part is not Ellipsis]
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and Ellipsis not in get_args(hint) and inner:
            return len(value) == len(inner) and all(map(fits, value, inner))
        return not inner or all(fits(each, inner[0]) for each in value)
    if origin in (Mapping, dict):
        return isinstance(value, Mapping) and all(fits(each, get_args(hint)[1]) for each in value.values())
    # A class, a protocol or a function: built from a node, never a number or a text.
    return not isinstance(value, bool | int | float | str | list) if _is_built(hint) else True


_UNION = (Union, types.UnionType)


def _is_sequence(hint: Any) -> bool:
    return (get_origin(hint) or hint) in (list, tuple, Sequence, set, frozenset)


def _is_built(hint: Any) -> bool:
    """Whether only a node can give it: a function, or a class of nlnet or PyTorch; of others nothing is known."""
    if (get_origin(hint) or hint) is Callable:
        return True
    return inspect.isclass(hint) and hint.__module__.split(".")[0] in ("nlnet", "torch")


def _options(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [option for part in get_args(hint) for option in _options(part)] if get_origin(hint) in _UNION else []


def describe(hint: Any) -> str:
    """A type for people: ``Sequence[int]`` -> a list of whole numbers."""
    origin = get_origin(hint)
    if origin in _UNION:
        return " or ".join(describe(part) for part in get_args(hint))
    if origin is Literal:
        return "one of " + ", ".join(map(str, get_args(hint))) if len(get_args(hint)) > 1 else str(get_args(hint)[0])
    if hint is type(None) or hint is None:
        return "null"
    simple = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}
    if hint in simple:
        return simple[hint]
    if _is_sequence(hint):
        inner = [part for part in get_args(hint) if part is not Ellipsis]
        return "a list" + (f" [{describe(inner[0])}, …]" if inner else "")
    return NODE


def nearest(wrong: str, right: Sequence[str]) -> str:
    """``; did you mean 'optim.lr'?`` or, when nothing is near, nothing."""
    close = difflib.get_close_matches(wrong, right, n=1, cutoff=0.6)
    if not close:  # the last part alone: lr for optim.lr
        tails = {name.rpartition(".")[2]: name for name in right}
        close = [tails[tail] for tail in difflib.get_close_matches(wrong.rpartition(".")[2], tails, n=1)]
    return f"; did you mean '{close[0]}'?" if close else ""
