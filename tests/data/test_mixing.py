"""Mixed pairs: torchvision's arithmetic, one pair at a time, whatever batch the pair is in."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from nlnet.data.mixing import CutMix, Mix, Mixup, NoMix, OneOf, PairMixer
from nlnet.data.sampling import sample_generator
from nlnet.errors import ConfigError

CLASSES = 5
RULES: dict[str, Mix] = {"mixup": Mixup(), "cutmix": CutMix(), "either": OneOf(Mixup(0.4), CutMix(), second_share=0.5)}


def clips(count: int) -> Tensor:
    """[B, C, T, H, W], channels last in memory as those of training."""
    values = torch.randn(count, 2, 9, 12, 3, generator=torch.Generator().manual_seed(0))
    return values.permute(0, 4, 1, 2, 3)


def as_theirs(pair: Tensor) -> Tensor:
    """A pair as a batch of videos for torchvision; only the last two axes matter to it."""
    wrapped: Tensor = tv_tensors.Video(pair)
    return wrapped


def labels(count: int) -> Tensor:
    return torch.arange(count) * 2 % CLASSES


def test_mixup_of_a_pair_is_torchvisions() -> None:
    for number in range(5):
        mixed, own = Mixup()(clips(2), sample_generator(0, number))
        share = sample_generator(0, number)
        share.random()
        assert own == share.beta(0.8, 0.8)
        expected = v2.MixUp(num_classes=CLASSES).transform(
            as_theirs(clips(2)), {"lam": own, "batch_size": 2, "labels": None}
        )
        torch.testing.assert_close(mixed, torch.as_tensor(expected.data))


def test_cutmix_of_a_pair_is_torchvisions_box_by_box() -> None:
    shares = []
    for number in range(60):
        mixed, own = CutMix()(clips(2), sample_generator(0, number))
        same = (mixed == clips(2)).all(dim=(0, 1, 2))  # [H, W]
        rows, columns = (~same).any(1).nonzero()[:, 0], (~same).any(0).nonzero()[:, 0]
        box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1) if len(rows) else (0, 0, 0, 0)
        params = {"box": box, "lam_adjusted": own, "batch_size": 2, "labels": None}
        assert torch.equal(mixed, v2.CutMix(num_classes=CLASSES).transform(as_theirs(clips(2)), params))
        assert own == pytest.approx(float(same.float().mean()))
        shares.append(own)
    assert min(shares) < 0.4
    assert max(shares) > 0.95


def test_targets_are_mixed_as_the_clips_are() -> None:
    for rule in RULES.values():
        mixer = PairMixer(rule, seed=3, num_classes=CLASSES)
        _, targets = mixer(clips(6), labels(6), range(10, 16))
        for first in (0, 2, 4):
            _, own = rule(clips(6)[[first, first + 1]], sample_generator(3, 10 + first, 2))
            for one, other in ((first, first + 1), (first + 1, first)):
                expected = torch.zeros(CLASSES)
                expected[labels(6)[one]] += own
                expected[labels(6)[other]] += 1 - own
                torch.testing.assert_close(targets[one], expected)


def test_videos_with_several_labels_keep_shares_of_all_of_them() -> None:
    several = torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    mixed, targets = PairMixer(Mixup(), seed=0, num_classes=3)(clips(2), several, [4, 5])
    _, own = Mixup()(clips(2), sample_generator(0, 4, 2))
    torch.testing.assert_close(targets, torch.tensor([[own, 0, own], [1 - own, 0, 1 - own]]))
    assert several.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert mixed.shape == (2, 3, 2, 9, 12)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("repeats", [1, 2])
def test_a_pair_is_mixed_the_same_in_whatever_micro_batch(name: str, repeats: int) -> None:
    """So neither processes nor accumulation change anything."""
    mixer = PairMixer(RULES[name], seed=1, num_classes=CLASSES, repeats=repeats)
    whole, targets = mixer(clips(8), labels(8), range(16, 24))
    assert not torch.equal(whole, clips(8))
    assert whole.stride() == clips(8).stride()
    for size in (4, 2 * repeats):
        for first in range(0, 8, size):
            part = slice(first, first + size)
            mixed, of_part = mixer(clips(8)[part], labels(8)[part], range(16 + first, 16 + first + size))
            assert torch.equal(mixed, whole[part])
            assert torch.equal(of_part, targets[part])


def test_clips_of_one_video_are_mixed_with_those_of_the_next() -> None:
    mixer = PairMixer(Mixup(), seed=1, num_classes=4, repeats=2)
    _, targets = mixer(clips(8), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), range(8))
    shown = [set(row.nonzero()[:, 0].tolist()) for row in targets]
    assert shown == [{0, 1}] * 4 + [{2, 3}] * 4


def test_how_often_each_rule_is_taken() -> None:
    generator = sample_generator(0, 0)
    halves = [Mixup(probability=0.25)(clips(2), generator)[1] for _ in range(400)]
    assert sum(own != 1 for own in halves) == pytest.approx(100, abs=30)
    either = OneOf(NoMix(), Mixup(), second_share=0.8)
    assert sum(either(clips(2), generator)[1] != 1 for _ in range(400)) == pytest.approx(320, abs=30)
    narrow, wide = (np.std([Mixup(alpha)(clips(2), generator)[1] for _ in range(300)]) for alpha in (8.0, 0.1))
    assert narrow < 0.17 < 0.35 < wide  # Beta(a, a) has the deviation 1 / sqrt(8 a + 4)


def test_micro_batches_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"data/mix: 3 clips .* a multiple of 2 x data.repeats = 2"):
        PairMixer(Mixup(), seed=0, num_classes=2).check(3)
    with pytest.raises(ConfigError, match="= 4"):
        PairMixer(Mixup(), seed=0, num_classes=2, repeats=2)(clips(6), labels(6), range(6))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Mixup(alpha=0), "alpha"),
        (lambda: CutMix(probability=2), "probability"),
        (lambda: OneOf(Mixup(), CutMix(), second_share=-1), "second_share"),
    ],
)
def test_what_cannot_work_is_refused_by_name(make: Any, key: str) -> None:
    with pytest.raises(ConfigError, match=f"data.mix.{key}"):
        make()
