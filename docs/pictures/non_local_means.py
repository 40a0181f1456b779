"""Makes non_local_means.png beside this file: a noisy picture, denoised by the non-local operation. Prints PSNRs."""

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib import cbook
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from nlnet.models.non_local_means import non_local_means

NOISE = 0.1  # standard deviation, for values in [0, 1]
PATCH = 3
STRENGTHS = (0.2, 0.22, 0.24, 0.26, 0.28, 0.3, 0.35)  # h; the best one is shown
BLURS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)  # standard deviations in pixels; the best one is shown


def photograph(size: int = 144) -> Tensor:
    """Grace Hopper (US Navy, public domain; matplotlib's sample data), grey values in [0, 1]. [1, 1, H, W]."""
    with Image.open(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        head = picture.convert("L").crop((105, 15, 393, 303)).resize((size, size), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(head, dtype=np.float32) / 255)[None, None]


def peak_signal_to_noise(picture: Tensor, original: Tensor) -> float:
    """In decibels; the largest value is 1."""
    return float(-10 * (picture - original).square().mean().log10())


def best(pictures: dict[float, Tensor], original: Tensor) -> tuple[float, Tensor]:
    """The option, and its picture, with the highest PSNR."""
    return max(pictures.items(), key=lambda item: peak_signal_to_noise(item[1], original))


def main() -> None:
    original = photograph()
    noisy = original + NOISE * torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    h, denoised = best({h: non_local_means(noisy, patch=PATCH, h=h) for h in STRENGTHS}, original)
    width, blurred = best({width: gaussian_blur(noisy, 9, width) for width in BLURS}, original)
    panels = {
        "original": original,
        "with noise": noisy,
        f"Gaussian blur, {width} pixels": blurred,
        f"non-local means, h = {h}": denoised,
    }
    figure = Figure(figsize=(8.4, 2.42), layout="constrained")
    for axes, (title, picture) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        score = "" if picture is original else f"\n{peak_signal_to_noise(picture, original):.1f} dB"
        axes.imshow(picture[0, 0].clamp(0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title + (score or "\n"), fontsize=8)
        axes.set_axis_off()
        print(title, score.strip())
    colour = io.BytesIO()
    figure.savefig(colour, dpi=100)
    Image.open(colour).convert("L").save(Path(__file__).with_suffix(".png"), optimize=True)


if __name__ == "__main__":
    main()
