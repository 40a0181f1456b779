"""Non-local neural networks for video (Wang, Girshick, Gupta and He, 2018)."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported on first use, so that `import nlnet` and `nlnet --help` do not wait for torch.
_PUBLIC = {
    "NonLocalBlock": "nlnet.models.non_local",
    "VideoResNet": "nlnet.models.resnet",
    "insert_non_local": "nlnet.models.surgery",
    "load_model": "nlnet.config",
}
__all__ = ["NonLocalBlock", "VideoResNet", "__version__", "insert_non_local", "load_model"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'nlnet' has no attribute '{name}'")
