"""Non-local neural networks for video (Wang, Girshick, Gupta and He, 2018)."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported on first use, so that `import nlnet` and `nlnet --help` do not wait for torch.
_PUBLIC = {
    "NonLocalBlock": "nlnet.models.non_local:NonLocalBlock",
    "VideoResNet": "nlnet.models.resnet:VideoResNet",
    "insert_non_local": "nlnet.models.surgery:insert_non_local",
    "load": "nlnet.config:load_model",
}
__all__ = ["NonLocalBlock", "VideoResNet", "__version__", "insert_non_local", "load"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'nlnet' has no attribute '{name}'")
