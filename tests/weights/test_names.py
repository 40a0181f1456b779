"""The tables are one to one over all tensors of the networks, and shapes go there and back."""

import functools

import pytest
import torch

from nlnet.models.non_local import NonLocalBlock
from nlnet.models.pairwise import Concatenation, EmbeddedGaussian
from nlnet.models.resnet import Stage, Stem, VideoResNet
from nlnet.weights import caffe2, mmaction2, pytorchvideo, slowfast, torchvision_video
from nlnet.weights.names import Names, in_our_shape, in_their_shape


def resnet101(*, blocks: bool, pairwise: type = EmbeddedGaussian) -> VideoResNet:
    counts = {"res2": 3, "res3": 4, "res4": 23, "res5": 3}
    stages = {name: Stage(256 << i, count) for i, (name, count) in enumerate(counts.items())}
    placement = {101: {"res2": [0], "res3": [1, 3], "res4": [6, 13, 22], "res5": [2]}} if blocks else {}
    with torch.device("meta"):
        block = functools.partial(NonLocalBlock, pairwise=pairwise)
        return VideoResNet(stages, num_classes=400, stem=Stem(), non_local=block, placement=placement)


@pytest.mark.parametrize(
    ("names", "blocks", "pairwise"),
    [
        (slowfast.NAMES, True, EmbeddedGaussian),
        (mmaction2.POOLED, True, Concatenation),
        (mmaction2.UNPOOLED, True, Concatenation),
        (caffe2.NAMES, True, EmbeddedGaussian),
        (pytorchvideo.WITH_POOL, False, EmbeddedGaussian),
        (pytorchvideo.WITHOUT_POOL, False, EmbeddedGaussian),
        (torchvision_video.NAMES, False, EmbeddedGaussian),
    ],
)
def test_every_tensor_has_one_name_there(names: Names, blocks: bool, pairwise: type) -> None:
    ours = list(resnet101(blocks=blocks, pairwise=pairwise).state_dict())
    if names is caffe2.NAMES:
        ours = [name for name in ours if not name.endswith("num_batches_tracked")]
    theirs = [names.theirs(name) for name in ours]
    assert None not in theirs
    assert len(set(theirs)) == len(ours)
    assert [names.ours(name) for name in theirs if name is not None] == ours
    for name in ("res4.nl1.pairwise.psi.weight", "res6.0.a.weight", "res4.x.a.weight", "head", "stem.conv.weight.x"):
        assert names.theirs(name) is None


def test_published_names() -> None:
    """Some names as the projects' own files have them."""
    for names, theirs, ours in [
        (caffe2.NAMES, "res4_22_branch2b_bn_riv", "res4.22.b_bn.running_var"),
        (caffe2.NAMES, "nonlocal_conv3_1_theta_w", "res3.nl1.pairwise.theta.weight"),
        (caffe2.NAMES, "nonlocal_conv4_13_bn_s", "res4.nl13.bn.weight"),
        (slowfast.NAMES, "s3.pathway0_nonlocal1.conv_out.bias", "res3.nl1.out.bias"),
        (slowfast.NAMES, "s5.pathway0_res0.branch1_bn.running_mean", "res5.0.branch1_bn.running_mean"),
        (mmaction2.POOLED, "backbone.layer2.1.non_local_block.phi.0.conv.weight", "res3.nl1.pairwise.phi.weight"),
        (mmaction2.POOLED, "backbone.layer2.1.non_local_block.conv_out.bn.bias", "res3.nl1.bn.bias"),
        (mmaction2.POOLED, "backbone.layer4.0.downsample.conv.weight", "res5.0.branch1.weight"),
        (pytorchvideo.WITH_POOL, "blocks.3.res_blocks.0.branch1_norm.weight", "res3.0.branch1_bn.weight"),
        (pytorchvideo.WITH_POOL, "blocks.1.res_blocks.2.branch2.conv_b.weight", "res2.2.b.weight"),
    ]:
        assert names.ours(theirs) == ours
        assert names.theirs(ours) == theirs


@pytest.mark.parametrize("name", ["res3.nl1.pairwise.theta.weight", "res3.nl1.g.weight", "res4.nl10.out.weight"])
def test_projections_are_matrices_here_and_convolutions_there(name: str) -> None:
    matrix = torch.randn(3, 6)
    assert in_their_shape(name, matrix).shape == (3, 6, 1, 1, 1)
    assert torch.equal(in_our_shape(name, in_their_shape(name, matrix)), matrix)


def test_other_shapes() -> None:
    w_f = torch.randn(8)
    assert in_their_shape("res3.nl1.pairwise.w_f", w_f).shape == (1, 8, 1, 1)
    assert torch.equal(in_our_shape("res3.nl1.pairwise.w_f", w_f[None, :, None, None]), w_f)
    head = torch.randn(5, 6)
    assert torch.equal(in_our_shape("head.weight", head[:, :, None, None, None]), head)
    assert in_their_shape("head.weight", head) is head
    for name in ("res3.0.a.weight", "res3.nl1.bn.weight", "res3.nl1.out.bias", "head.bias"):
        tensor = torch.randn(4, 4, 1, 1, 1) if name.endswith("a.weight") else torch.randn(4)
        assert in_our_shape(name, tensor) is tensor
        assert in_their_shape(name, tensor) is tensor
