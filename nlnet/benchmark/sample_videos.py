"""Videos to measure a loader with: ten seconds of texture, moving things and camera noise, as footage compresses.

340 x 256 pixels, 30 frames per second, H.264 with a key frame every 250 frames and B-frames (x264's defaults): what
Kinetics copies of a short side of 256 look like, at about their size (270 KiB on average).
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

HEIGHT, WIDTH, RATE, NUM_FRAMES = 256, 340, 30, 300

Picture = npt.NDArray[np.float64]


def write_videos(folder: Path, number: int) -> list[str]:
    """``number`` of them in two class folders of ``folder`` -> their paths. What is there already is kept."""
    paths = []
    for seed in range(number):
        path = folder / f"class_{seed % 2}" / f"{seed:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            encode(path, moving_pictures(seed), key_every=250)
        paths.append(str(path))
    return paths


def encode(path: Path, frames: Iterator[npt.NDArray[np.uint8]], *, key_every: int, rate: int = RATE) -> None:
    """Frames [H, W, 3] -> an H.264 file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"g": str(key_every), "crf": "24"})
        for number, pixels in enumerate(frames):
            if number == 0:
                stream.height, stream.width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def moving_pictures(seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames [H, W, 3]: a camera over a textured ground, four textured discs, noise that changes with each frame."""
    generator = np.random.default_rng(seed)
    ground = 118 + 45 * _texture(generator, 2 * HEIGHT, 2 * WIDTH, 1.5)[..., None]
    colours = [_texture(generator, 2 * HEIGHT, 2 * WIDTH, 2.0) for _ in range(3)]
    ground = np.clip(ground + 18 * np.stack(colours, axis=-1), 0, 255)
    discs = [_Disc(generator) for _ in range(4)]
    noises = [generator.normal(0, 2.5, (HEIGHT, WIDTH, 1)) for _ in range(8)]
    phase, reach, speed = (generator.uniform(low, high, 2) for low, high in ((0.0, 6.28), (20.0, 100.0), (0.01, 0.03)))
    for number in range(NUM_FRAMES):
        top, left = (np.array([HEIGHT, WIDTH]) / 2 + reach * np.sin(phase + speed * number)).astype(int)
        frame = ground[top : top + HEIGHT, left : left + WIDTH].copy()
        for disc in discs:
            disc.draw(frame, number)
        yield np.clip(frame + noises[generator.integers(8)], 0, 255).astype(np.uint8)


class _Disc:
    """Something textured that moves on a curve of its own."""

    def __init__(self, generator: np.random.Generator) -> None:
        size = int(generator.integers(40, 90))
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        self.cover = np.clip((1 - np.hypot(y, x)) * 8, 0, 1)[..., None]
        self.pixels = generator.uniform(60, 200, 3) + 35 * _texture(generator, size, size, 1.2)[..., None]
        self.speed, self.phase = generator.uniform(0.02, 0.08), generator.uniform(0, 6.28, 2)
        self.reach = generator.uniform(30, 90, 2)

    def draw(self, frame: Picture, number: int) -> None:
        size = len(self.cover)
        free = np.array([HEIGHT - size, WIDTH - size])
        place = free / 2 + self.reach * np.sin(self.phase + self.speed * number * np.array([1, 1.3]))
        top, left = np.clip(place, 0, free).astype(int)
        below = frame[top : top + size, left : left + size]
        below += self.cover * (self.pixels - below)


def _texture(generator: np.random.Generator, height: int, width: int, power: float) -> Picture:
    """Noise whose energy falls with frequency -> [height, width], of mean 0 and deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    real, imaginary = generator.standard_normal((2, *frequency.shape))
    waves = (real + 1j * imaginary) / np.maximum(frequency, 1 / max(height, width)) ** power
    picture = np.fft.irfft2(waves, s=(height, width))
    scaled: Picture = (picture - picture.mean()) / picture.std()
    return scaled
