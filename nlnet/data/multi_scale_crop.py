"""Training crops of a few sizes at five places, as MMAction2 has them, instead of scale jitter."""

from collections.abc import Sequence

import numpy as np

from nlnet.data.crops import Box, source_box
from nlnet.data.decoders import VideoInfo
from nlnet.data.sampling import resized_shape
from nlnet.data.transforms import TrainPlacement, TrainView, View
from nlnet.errors import ConfigError

# Four corners and the centre, in steps of a quarter of what is free, downwards and to the right.
_PLACES = ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))
_NEAR = 3  # pixels: edges nearer than that to the crop's become the crop's, so that nothing is scaled


class MultiScaleCropView(TrainView):
    """A random view for training: VideoInfo, generator -> View of [frames, crop, crop].

    The shorter side becomes ``short_side``. Height and width of a box are ``short_side`` times one of ``scales`` each,
    all pairs whose places in the list differ by at most ``max_gap`` being equally likely; the box stands in one of the
    four corners or in the centre, and becomes ``crop`` x ``crop``, its aspect changed where the two edges differ
    (mmaction/datasets/transforms/processing.py, MultiScaleCrop with its five fixed positions; corners are up to three
    pixels short of the frame's right and lower end there, and here).

    Args:
        frames, stride, placement, crop, flip: as for ``TrainView``.
        short_side: of the frame.
        scales: of the box, at most 1.
        max_gap: 0 for squares only (MMAction2's I3D), 1 for neighbouring scales too (its C2D).
    """

    def __init__(
        self,
        *,
        frames: int,
        stride: int,
        placement: TrainPlacement | None = None,
        short_side: int = 256,
        crop: int = 224,
        scales: Sequence[float] = (1.0, 0.8),
        max_gap: int = 0,
        flip: float = 0.5,
    ) -> None:
        sides = (short_side, short_side)
        super().__init__(frames=frames, stride=stride, placement=placement, short_side=sides, crop=crop, flip=flip)
        if not scales or not all(0 < scale <= 1 for scale in scales):
            raise ConfigError(f"data.augment.scales are fractions of the shorter side, up to 1, not {list(scales)}")
        if max_gap < 0:
            raise ConfigError(f"data.augment.max_gap must be at least 0, not {max_gap}")
        edges = [max(1, int(short_side * scale)) for scale in scales]
        edges = [crop if abs(edge - crop) < _NEAR else edge for edge in edges]
        self.boxes = [
            (height, width) for i, height in enumerate(edges) for j, width in enumerate(edges) if abs(i - j) <= max_gap
        ]

    def __call__(self, info: VideoInfo, generator: np.random.Generator) -> View:
        """Draw a view of the video that ``info`` describes."""
        indices = self.placement(info, self.frames, self.stride, generator)
        scaled = resized_shape(info.height, info.width, self.short_side[0])
        box = self._box(scaled, generator)
        flip = bool(generator.random() < self.flip)
        return View(indices, source_box(box, scaled, (info.height, info.width)), (self.crop, self.crop), flip)

    def _box(self, scaled: tuple[int, int], generator: np.random.Generator) -> Box:
        """One of the boxes at one of the places, in pixels of the scaled frame."""
        height, width = self.boxes[generator.integers(len(self.boxes))]
        down, right = _PLACES[generator.integers(len(_PLACES))]
        return down * ((scaled[0] - height) // 4), right * ((scaled[1] - width) // 4), height, width
