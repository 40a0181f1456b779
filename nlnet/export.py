"""Trained networks as files for other programs, each checked against the network before it is kept.

Axes: B clips, T frames, H×W positions of a frame, K classes. In a file T, H and W are fixed and B is free.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from nlnet.errors import ConfigError, ExportError

# How far the logits of a file may be from the network's, as a share of the largest logit: other programs add in
# another order, and single precision has 7 digits.
LIMIT = 1e-3
BATCHES = (1, 3)  # of random clips, to compare; the example that the files are made from has two
_EXTERNAL_DATA = 1 << 30  # bytes: ONNX cannot hold more than 2 GiB of weights in the file itself

Run = Callable[[Tensor], Tensor]
Write = Callable[[nn.Module, Tensor, Path], Run]


@dataclass(frozen=True)
class Exported:
    """A file, how far its logits were from the network's at most, and the network's largest logit then."""

    path: Path
    difference: float
    largest: float

    def __str__(self) -> str:
        size = self.path.stat().st_size / 1e6
        return (
            f"{self.path}: {size:.1f} MB; on {sum(BATCHES)} random clips its logits differ from the network's by at "
            f"most {self.difference:.2g}, the largest being {self.largest:.3g}"
        )


def write_torch(model: nn.Module, example: Tensor, path: Path) -> Run:
    """A torch.export file; ``torch.export.load(path).module()`` runs it without nlnet."""
    with _quiet():
        torch.export.save(torch.export.export(model, (example,), dynamic_shapes=_free_batch()), path)
    loaded: Run = torch.export.load(path).module()
    return loaded


def write_onnx(model: nn.Module, example: Tensor, path: Path) -> Run:
    """An ONNX file with the input ``clip`` and the output ``logits``, run by onnxruntime.

    Raises:
        ConfigError: the packages for it are not installed.
    """
    need_onnx()
    import onnxruntime

    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    with _quiet():
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=["clip"],
            output_names=["logits"],
            dynamic_shapes=_free_batch(),
            external_data=weights > _EXTERNAL_DATA,
            dynamo=True,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda clip: torch.from_numpy(session.run(["logits"], {"clip": clip.numpy()})[0])


# The name of a format: its file, and what writes it.
FORMATS: Mapping[str, tuple[str, Write]] = {"torch": ("model.pt2", write_torch), "onnx": ("model.onnx", write_onnx)}


def need_onnx() -> None:
    """Refuses to write ONNX where its packages are missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"an ONNX file needs {', '.join(missing)}: pip install 'nlnet[export]' (--format torch needs nothing)"
        )


def export(model: nn.Module, clip: Sequence[int], path: Path, *, write: Write) -> Exported:
    """Writes a network for clips of (T, H, W) into ``path``, and compares what the file gives on random clips.

    Args:
        model: normalised clips [B, 3, T, H, W] -> logits [B, K], on the CPU and in evaluation mode.
        write: ``write_torch`` or ``write_onnx``.

    Raises:
        ExportError: the logits differ by more than ``LIMIT`` of the largest; the file is removed.
    """
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        run = write(model, torch.randn(2, 3, *clip, generator=generator), path)
        difference = largest = torch.tensor(0.0)
        for size in BATCHES:
            clips = torch.randn(size, 3, *clip, generator=generator)
            expected = model(clips)
            difference = torch.maximum(difference, (run(clips) - expected).abs().max())  # keeps a NaN
            largest = torch.maximum(largest, expected.abs().max())
    if not difference <= LIMIT * largest:
        path.unlink(missing_ok=True)
        raise ExportError(
            f"{path}: removed: its logits differ by up to {float(difference):.2g} from the network's, whose largest is "
            f"{float(largest):.3g}; more than {LIMIT} of that is no rounding"
        )
    return Exported(path, float(difference), float(largest))


def _free_batch() -> tuple[dict[int, torch.export.Dim]]:
    return ({0: torch.export.Dim("batch")},)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own insides."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
