"""Changes of pixels: torchvision's own with the numbers drawn, the same for all frames, from the sample's generator."""

import colorsys
import pickle
import random
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from nlnet.data.mixing import CutMix, Mixup, OneOf, PairMixer
from nlnet.data.pixels import (
    RAND_AUGMENT,
    ColourJitter,
    Erase,
    InTurn,
    NoChanges,
    Pixels,
    RandAugment,
    RandomErasing,
    changed,
)
from nlnet.data.sampling import sample_generator
from nlnet.errors import ConfigError

SIZE = (30, 44)
RULES: dict[str, Pixels] = {
    "colour jitter": ColourJitter(),
    "randaugment": RandAugment(num_ops=3),
    "erasing": RandomErasing(probability=1.0, fill="noise"),
    "both": InTurn({"a": RandAugment(interpolation="bilinear", fill=90), "b": RandomErasing(probability=0.5)}),
}


def clip(seed: int = 0, frames: int = 3) -> Tensor:
    """Noise over a slope, uint8 [T, H, W, C]: no frame and no colour like another."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 120, (frames, *SIZE, 3), generator=generator)
    return (noise + 2 * torch.arange(SIZE[1])[:, None]).to(torch.uint8)


def torchvision_operation(name: str, magnitude: int, bins: int, sign: float, frames: Tensor) -> Tensor:
    """RandAugment's operation as torchvision makes it: [T, C, H, W]."""
    theirs = v2.RandAugment(magnitude=magnitude, num_magnitude_bins=bins)
    magnitudes, signed = theirs._AUGMENTATION_SPACE[name]
    of_bins = magnitudes(bins, *frames.shape[-2:])
    strength = 0.0 if of_bins is None else float(of_bins[magnitude]) * (sign if signed else 1)
    return theirs._apply_image_or_video_transform(
        frames, name, strength, interpolation=F.InterpolationMode.NEAREST, fill={}
    )


def test_randaugment_has_the_operations_of_torchvision() -> None:
    assert list(RAND_AUGMENT) == list(v2.RandAugment._AUGMENTATION_SPACE)


@pytest.mark.parametrize("name", list(RAND_AUGMENT))
@pytest.mark.parametrize(("magnitude", "bins"), [(0, 31), (9, 31), (30, 31), (7, 11)])
def test_each_operation_gives_what_torchvision_gives(name: str, magnitude: int, bins: int) -> None:
    ours = RandAugment(magnitude=magnitude, num_magnitude_bins=bins)
    frames_TCHW = clip().permute(0, 3, 1, 2)
    results = []
    for sign in (1.0, -1.0):
        change = ours.change(name, sign, SIZE)
        results.append(frames_TCHW if change is None else change(frames_TCHW))
        # Their factors are float32: a level may round the other way.
        expected = torchvision_operation(name, magnitude, bins, sign, frames_TCHW)
        difference = (results[-1].int() - expected.int()).abs()
        assert difference.max() <= (1 if name in ("Brightness", "Color", "Contrast", "Sharpness") else 0), sign
        assert difference.float().mean() < 0.02
    if name != "Identity" and magnitude == 9:
        assert not torch.equal(results[0], frames_TCHW)
        assert torch.equal(*results) == (name in ("Posterize", "Solarize", "AutoContrast", "Equalize"))


def test_randaugment_draws_operations_and_signs_uniformly() -> None:
    generator = sample_generator(0, 0)
    rule = RandAugment(num_ops=1)
    drawn = [rule(SIZE, generator) for _ in range(2800)]
    assert sum(not changes for changes in drawn) == pytest.approx(200, abs=60)  # Identity
    angles = [c.keywords["angle"] for (c,) in filter(None, drawn) if isinstance(c, partial) and c.func is F.rotate]
    assert len(angles) == pytest.approx(200, abs=60)
    assert set(angles) == {9.0, -9.0}
    assert sum(angle > 0 for angle in angles) == pytest.approx(len(angles) / 2, abs=35)
    assert len(RandAugment(num_ops=50)(SIZE, generator)) > 30


def test_filling_and_interpolation_are_those_asked_for() -> None:
    frames_TCHW = clip().permute(0, 3, 1, 2)
    shifted = RandAugment(magnitude=30, fill=77).change("TranslateX", 1.0, SIZE)(frames_TCHW)  # type: ignore[misc]
    assert (shifted[..., : int(150 / 331 * SIZE[1])] == 77).all()
    nearest, bilinear = (
        RandAugment(interpolation=way).change("Rotate", 1.0, SIZE)(frames_TCHW)  # type: ignore[misc, arg-type]
        for way in ("nearest", "bilinear")
    )
    assert torch.equal(nearest, F.rotate(frames_TCHW, 9.0, F.InterpolationMode.NEAREST))
    assert torch.equal(bilinear, F.rotate(frames_TCHW, 9.0, F.InterpolationMode.BILINEAR, fill=0))


@pytest.mark.parametrize("name", RULES)
def test_all_frames_have_the_same_changes(name: str) -> None:
    for number in range(12):
        changes = RULES[name](SIZE, sample_generator(5, number))
        whole = changed(clip(), changes)
        assert whole.dtype == torch.uint8
        assert whole.is_contiguous()
        assert whole.shape == (3, *SIZE, 3)
        for frame in range(3):
            assert torch.equal(whole[frame], changed(clip()[frame : frame + 1], changes)[0])


@pytest.mark.parametrize("name", RULES)
def test_changes_are_functions_of_the_generator_and_travel(name: str) -> None:
    first, again = (RULES[name](SIZE, sample_generator(1, 2)) for _ in range(2))
    assert torch.equal(changed(clip(), first), changed(clip(), pickle.loads(pickle.dumps(again))))
    results = [changed(clip(), RULES[name](SIZE, sample_generator(1, number))) for number in range(8)]
    assert len({result.numpy().tobytes() for result in results}) > 4
    assert (clip() == clip()).all()


def test_nothing_is_changed_without_changes() -> None:
    original = clip()
    assert NoChanges()(SIZE, sample_generator(0, 0)) == []
    assert changed(original, []) is original


def test_the_original_is_never_changed_in_place() -> None:
    for rule in RULES.values():
        original = clip()
        changed(original, rule(SIZE, sample_generator(0, 3)))
        assert torch.equal(original, clip())


def by_hand(frames: np.ndarray[Any, Any], change: "partial[Tensor]") -> np.ndarray[Any, Any]:
    """One step of colour jitter on [T, H, W, 3] in [0, 1], pixel by pixel."""
    (factor,) = change.keywords.values()
    grey = frames @ np.array([0.2989, 0.587, 0.114])
    if change.func is F.adjust_brightness:
        result = frames * factor
    elif change.func is F.adjust_contrast:
        result = factor * frames + (1 - factor) * grey.mean(axis=(1, 2))[:, None, None, None]
    elif change.func is F.adjust_saturation:
        result = factor * frames + (1 - factor) * grey[..., None]
    else:
        pixels = [colorsys.rgb_to_hsv(*pixel) for pixel in frames.reshape(-1, 3)]
        turned = [colorsys.hsv_to_rgb((hue + factor) % 1, s, v) for hue, s, v in pixels]
        result = np.array(turned).reshape(frames.shape)
    return np.clip(result, 0, 1)


@pytest.mark.parametrize("number", range(6))
def test_colour_jitter_is_what_its_formulas_say(number: int) -> None:
    changes = ColourJitter()(SIZE, sample_generator(0, number))
    assert len(changes) == 4
    for change in changes:
        assert isinstance(change, partial)
        ours = changed(clip(), [change]).numpy()
        # torchvision rounds down at each step, and the mean grey to a whole level.
        assert np.abs(ours - by_hand(clip().numpy() / 255, change) * 255).max() < 2.5
    frames_TCHW = clip().permute(0, 3, 1, 2)
    factors: dict[str, float] = {}
    for change in changes:
        factors |= change.keywords  # type: ignore[union-attr]
    order = [
        ["adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue"].index(c.func.__name__)
        for c in changes
    ]  # type: ignore[union-attr]
    theirs = v2.ColorJitter(1, 1, 1, 0.5).transform(frames_TCHW, {"fn_idx": torch.tensor(order), **factors})
    assert torch.equal(changed(clip(), changes), theirs.permute(0, 2, 3, 1))


def test_colour_jitter_draws_within_its_ranges_in_every_order() -> None:
    generator = sample_generator(0, 0)
    jitter = ColourJitter(brightness=0.2, contrast=1.5, saturation=0.0, hue=0.3, probability=0.5)
    drawn = [jitter(SIZE, generator) for _ in range(600)]
    made = [changes for changes in drawn if changes]
    assert len(made) == pytest.approx(300, abs=50)
    factors: dict[str, list[float]] = {}
    for changes in made:
        for change in changes:
            for name, value in change.keywords.items():  # type: ignore[attr-defined]
                factors.setdefault(name, []).append(value)
    assert set(factors) == {"brightness_factor", "contrast_factor", "hue_factor"}
    for name, low, high in (("brightness_factor", 0.8, 1.2), ("contrast_factor", 0, 2.5), ("hue_factor", -0.3, 0.3)):
        values = np.array(factors[name])
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.1 * (high - low)
    assert len({tuple(change.func.__name__ for change in changes) for changes in made}) == 6  # type: ignore[attr-defined]


def test_an_erased_box_is_within_its_limits_and_nothing_else_changes() -> None:
    rule = RandomErasing(probability=1.0, scale=(0.05, 0.3), ratio=(0.5, 2.0), fill=115)
    areas, tops = [], []
    for number in range(200):
        (erase,) = rule(SIZE, sample_generator(0, number))
        assert isinstance(erase, Erase)
        top, left, height, width = erase.box
        assert 0 <= top <= SIZE[0] - height
        assert 0 <= left <= SIZE[1] - width
        areas.append(height * width / (SIZE[0] * SIZE[1]))
        tops.append(top / (SIZE[0] - height))
        assert 0.45 < height / width < 2.2  # whole pixels
        expected = clip()
        for frame in range(3):
            for row in range(top, top + height):
                for column in range(left, left + width):
                    expected[frame, row, column] = 115
            if number > 3:
                break  # the loop is slow: the first boxes are enough
        if number <= 3:
            assert torch.equal(changed(clip(), [erase]), expected)
    assert 0.04 < min(areas) < 0.08
    assert 0.25 < max(areas) < 0.32
    assert min(tops) == 0
    assert max(tops) == 1


def test_noise_is_the_same_in_all_frames_and_erasing_happens_as_often_as_said() -> None:
    (erase,) = RandomErasing(probability=1.0, fill="noise")(SIZE, sample_generator(0, 1))
    assert isinstance(erase, Erase)
    top, left, height, width = erase.box
    box = changed(clip(), [erase])[:, top : top + height, left : left + width]
    assert torch.equal(box[0], box[1])
    assert len(box[0].unique()) > min(height * width, 60) / 2
    often = RandomErasing(probability=0.3)
    assert sum(bool(often(SIZE, sample_generator(2, number))) for number in range(500)) == pytest.approx(150, abs=40)
    assert RandomErasing(probability=1.0, scale=(1.0, 1.0))(SIZE, sample_generator(0, 0)) == []  # no such box fits


def test_no_global_random_state_is_touched() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index, union-attr]
    for rule in RULES.values():
        for number in range(10):
            changed(clip(), rule(SIZE, sample_generator(0, number)))
    mixer = PairMixer(OneOf(Mixup(), CutMix()), seed=0, num_classes=4)
    for number in range(0, 20, 2):
        mixer(torch.rand(2, 3, 2, 8, 8, generator=torch.Generator()), torch.tensor([1, 2]), [number, number + 1])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]
    assert random.getstate() == before[2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColourJitter(brightness=-1), "brightness must be at least 0"),
        (lambda: ColourJitter(hue=0.7), "hue must be between 0 and 0.5"),
        (lambda: ColourJitter(probability=1.5), "probability"),
        (lambda: RandAugment(magnitude=31), "between 0 and num_magnitude_bins - 1 = 30"),
        (lambda: RandAugment(num_ops=-1), "num_ops"),
        (lambda: RandAugment(interpolation="cubic"), "nearest or bilinear"),  # type: ignore[arg-type]
        (lambda: RandAugment(fill=256), "0 to 255"),
        (lambda: RandomErasing(scale=(0.5, 0.2)), "scale"),
        (lambda: RandomErasing(ratio=(0, 1)), "ratio"),
        (lambda: RandomErasing(fill=-1), "0 to 255"),
    ],
)
def test_what_cannot_work_is_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"data.pixels.*{message}"):
        make()


@pytest.mark.gpu
@pytest.mark.parametrize("name", RULES)
def test_on_a_gpu_the_changes_are_the_same(name: str) -> None:
    for number in range(20):
        changes = RULES[name](SIZE, sample_generator(0, number))
        difference = changed(clip().cuda(), changes).cpu().int() - changed(clip(), changes).int()
        assert (difference.abs() <= 1).float().mean() > 0.99  # nearest neighbours may differ where two are as near
