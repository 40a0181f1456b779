"""Finding, composing, checking and building configs. This package is the only code that knows Hydra.

The signature of a ``_target_`` is the schema of its node: a key that it does not take is refused before any work.
"""

import inspect
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, InstantiationException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nlnet.config.schema import check_values, named, nearest
from nlnet.errors import ConfigError, NlnetError

# The nodes that build.py reads itself; the rest is checked by signatures.
TOP_LEVEL = [
    "model",
    "data",
    "optim",
    "schedule",
    "trainer",
    "init",
    "batch_norm",
    "compat",
    "name",
    "seed",
    "device",
    "workers",
    "threads",
    "tensorboard",
    "keep_checkpoints",
    "keep_every",
    "start_timeout",
    "step_timeout",
    "worker_timeout",
    "runs",
    "experiment",
]
DATA_LEVEL = [
    "root",
    "clip",
    "annotations",
    "augment",
    "pixels",
    "augment_on_device",
    "mix",
    "order",
    "repeats",
    "test_short_side",
    "views",
    "validation",
    "decoder",
    "normalize",
    "max_bad_fraction",
    "max_seconds_per_video",
    "prepare",
]
# Nodes without a ``_target_``, and their keys.
PLAIN_NODES = {
    "": TOP_LEVEL,
    "data": DATA_LEVEL,
    "data.clip": ["frames", "stride"],
    "init": ["path", "freeze"],
    "compat": ["name", "softmax_scale"],
}
_SAFE = ("nlnet.models.", "nlnet.data.")
_HYDRA_KEYS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def shipped_configs() -> Path:
    """The folder of the configs that come with the package."""
    return Path(str(files("nlnet.configs")))


def config_folders(config_dir: str | None) -> list[Path]:
    """Where YAMLs are looked for, first to last: ``--config-dir``, ``./configs``, the shipped tree."""
    folders = []
    if config_dir is not None:
        if not Path(config_dir).is_dir():
            raise ConfigError(f"--config-dir {config_dir}: no such folder")
        folders.append(Path(config_dir).resolve())
    folders.append(Path("configs").resolve())
    shipped = shipped_configs().resolve()
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir() and folder != shipped] + [shipped]


class UserFolders(SearchPathPlugin):
    """Puts the user's folders in front of the shipped tree, so that a YAML of theirs wins over ours of that name.

    The key hydra.searchpath could only append them.
    """

    folders: ClassVar[list[Path]] = []

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in reversed(self.folders):
            search_path.prepend("user", f"file://{folder}")


Plugins.instance().register(UserFolders)


def compose(config: str | None, overrides: Sequence[str], *, config_dir: str | None = None) -> DictConfig:
    """The composed config, with interpolations unresolved.

    Args:
        config: the primary config, such as ``train``; None composes the overrides alone.
        overrides: Hydra overrides, ``key=value`` and ``group=option``.
        config_dir: a folder of the user's YAMLs.

    Raises:
        ConfigError: an unknown key or option, with the nearest right name.
    """
    for override in overrides:
        _check_override(override)
    *UserFolders.folders, shipped = config_folders(config_dir)
    try:
        with initialize_config_dir(str(shipped), version_base="1.3"):
            composed = hydra_compose(config, list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, config, overrides, config_dir)) from error
    OmegaConf.set_struct(composed, False)
    choices = composed.pop("hydra").runtime.choices
    if composed.get("name") == "auto":
        composed.name = choices.get("experiment") or f"{choices['model']}-{choices['data']}"
    return composed


def _check_override(override: str) -> None:
    """Refuses what is not written as an override.

    Raises:
        ConfigError: with the right form.
    """
    key, equals, _ = override.partition("=")
    if not key.strip() or not (equals or key.startswith("~")):
        raise ConfigError(f"'{override}': overrides are written key=value, such as trainer.epochs=5")
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(
            f"'{override}': cannot be read ({str(error).splitlines()[0]}); put a value with spaces, brackets or other "
            "special characters into quotes twice: 'key=\"value\"'"
        ) from error

    if parsed.is_sweep_override():
        raise ConfigError(f"'{override}': one run takes one value; docs/sweeps.md tells how to train several")


def group_options(group: str, *, config_dir: str | None = None) -> list[str]:
    """The options of a config group: ``model/placement`` -> five, none, …"""
    found = {path.stem for folder in config_folders(config_dir) for path in (folder / group).glob("*.yaml")}
    return sorted(name for name in found if not name.startswith("_"))


def _explain(error: Exception, config: str | None, overrides: Sequence[str], config_dir: str | None) -> str:
    """Hydra's error as one sentence that names the key and the mend."""
    text = str(error.__cause__ or error) if "In '" in str(error) and error.__cause__ else str(error)
    if match := re.search(r"[Cc]ould not (?:override|find) '([\w./-]+)'", text):
        wanted = match[1]
        if "/" in wanted and (options := group_options(wanted.rpartition("/")[0], config_dir=config_dir)):
            group, _, option = wanted.rpartition("/")
            return f"{group}={option}: no such option{nearest(option, options)}; {group} has {', '.join(options)}"
        if config is not None:
            others = [override for override in overrides if not override.lstrip("+~").startswith(wanted)]
            known = all_keys(compose(config, others, config_dir=config_dir))
            if wanted in known:
                return f"'{wanted}': its entries cannot be changed this way; ++{wanted}.ENTRY=VALUE adds one"
            return f"'{wanted}': no such key{nearest(wanted, known)}"
    if match := re.search(r"An item is already at '([\w./-]+)'", text):
        return f"'{match[1]}': is there already; set it without the +, or with ++"
    if match := re.search(r"Could not delete from config. '([\w./-]+)' does not exist", text):
        kept = [override for override in overrides if not override.startswith("~")]
        known = all_keys(compose(config, kept, config_dir=config_dir))
        return f"'{match[1]}': no such key{nearest(match[1], known)}"
    detail = " ".join(line.strip() for line in text.splitlines()[:4] if line.strip())
    return f"the overrides do not compose: {detail}"


def all_keys(config: DictConfig) -> list[str]:
    """All dotted keys of a config, those of inner nodes too."""
    leaves = flat(OmegaConf.to_container(config, resolve=False))
    return sorted({".".join(key.split(".")[:end]) for key in leaves for end in range(1, key.count(".") + 2)})


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries -> one with dotted keys. Lists are values."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    leaves: dict[str, Any] = {}
    for key, child in node.items():
        leaves |= flat(child, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def differences(config: DictConfig) -> dict[str, list[Any]]:
    """Keys of a training config that are not as in the plain ``nlnet train`` -> [there, here], unresolved.

    None stands for a key that is not there.
    """
    plainest, own = (flat(OmegaConf.to_container(node, resolve=False)) for node in (compose("train", []), config))
    return {
        key: [plainest.get(key), own.get(key)] for key in sorted({*plainest, *own}) if plainest.get(key) != own.get(key)
    }


def override_stored(stored: DictConfig, overrides: Sequence[str], *, config_dir: str | None = None) -> DictConfig:
    """Overrides on a config that was composed earlier: ``key=value``, and ``group=option`` for a whole node.

    Raises:
        ConfigError: an unknown key, with the nearest right name.
    """
    config = stored.copy()
    OmegaConf.set_struct(config, False)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}': overrides are written key=value")
        if group_options(key, config_dir=config_dir):
            node = compose(None, [f"+{override}"], config_dir=config_dir)
            path = key.replace("/", ".")
            OmegaConf.update(config, path, OmegaConf.select(node, path), merge=False)
        elif key not in (paths := all_keys(config)):
            raise ConfigError(f"'{key}': no such key{nearest(key, paths)}")
        else:
            OmegaConf.update(config, key, yaml.safe_load(value), merge=False)
    return config


def check(config: DictConfig, *, trusted: bool = True) -> None:
    """Refuses unknown keys, missing values and targets that do not exist, before anything is built.

    Args:
        trusted: False for a config that came out of a file such as a checkpoint: only nlnet's own classes may be named.

    Raises:
        ConfigError: with the key and the nearest right name.
    """
    for key, value in flat(OmegaConf.to_container(config, resolve=False)).items():
        if value == "???":
            raise ConfigError(f"{key} is needed: give {key}=…")
    try:
        resolved = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{getattr(error, 'full_key', '') or 'config'}: {str(error).splitlines()[0]}") from error
    assert isinstance(resolved, dict)
    for path, known in PLAIN_NODES.items():
        node = OmegaConf.select(config, path) if path else config
        prefix = f"{path}." if path else ""
        for name in map(str, node) if isinstance(node, DictConfig) else ():
            if name not in known:
                near = nearest(f"{prefix}{name}", [f"{prefix}{key}" for key in known])
                raise ConfigError(f"'{prefix}{name}': no such key{near}")
    _check_node(resolved, "", trusted=trusted)
    check_values({str(key): value for key, value in resolved.items()})


def check_targets(node: DictConfig, path: str) -> None:
    """Refuses unknown keys of a node that is built on its own, such as a sweep."""
    _check_node(plain(node), path, trusted=True)
    check_values({path: plain(node)})


def _check_node(node: Any, path: str, *, trusted: bool) -> None:
    if isinstance(node, list):
        for index, child in enumerate(node):
            _check_node(child, f"{path}[{index}]", trusted=trusted)
    if not isinstance(node, dict):
        return
    for key, child in node.items():
        _check_node(child, f"{path}.{key}" if path else str(key), trusted=trusted)
    target = node.get("_target_")
    if target is None:
        return
    if not trusted and not str(target).startswith(_SAFE):
        raise ConfigError(f"{path}._target_={target}: a checkpoint may name nlnet's own models and data readers only")
    try:
        found = named(str(target))
        signature = inspect.signature(found)
    except (ImportError, ValueError, AttributeError, TypeError, HydraException) as error:
        raise ConfigError(f"{path}._target_={target}: cannot be imported ({' '.join(str(error).split())})") from error
    if not trusted and not _is_harmless(found):  # nlnet.models.resnet.os.system, say
        raise ConfigError(f"{path}._target_={target}: not a class of nlnet")
    takes = [name for name in signature.parameters if name != "self"]
    special = {"init"} if path == "model" else set()  # a child of the model's group that build.py takes itself
    for key in node:
        if key not in takes and key not in _HYDRA_KEYS | special:
            near = nearest(str(key), takes) or f"; it takes {', '.join(takes)}"
            raise ConfigError(f"'{path}.{key}': {str(target).rpartition('.')[2]} has no such option{near}")


def _is_harmless(found: Any) -> bool:
    """Whether a file may name this: one of our models or data readers, or a function that only looks."""
    module = str(getattr(found, "__module__", ""))
    if inspect.isclass(found):
        return module.startswith(_SAFE) and not module.startswith("nlnet.data.prepare")
    return module.startswith(("nlnet.data.placement", "nlnet.data.annotations"))


def plain(node: DictConfig | ListConfig) -> Any:
    """A config node as plain dictionaries, lists, numbers and strings, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True)


def build(node: DictConfig | dict[str, Any], **arguments: Any) -> Any:
    """The object that a node's ``_target_`` names. ``arguments`` are those that the config does not know.

    Raises:
        NlnetError: as the target raised it.
        ConfigError: the target refused its arguments.
    """
    try:
        return instantiate(node, _convert_="all", **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, NlnetError):
            raise error.__cause__ from None
        cause = error.__cause__ or error
        what = str(node.get("_target_", "")).rpartition(".")[2]
        raise ConfigError(f"{what} cannot be made of its options: {' '.join(str(cause).split())}") from error
