"""Non-local means (Buades, Coll and Morel, 2005), the classical filter that the paper starts from (section 2).

Exactly the non-local operation of equation 1, with an embedded Gaussian that has nothing to learn.
Axes: B pictures, H×W pixels, N = H·W of them, K values of a patch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nlnet import ops
from nlnet.errors import ConfigError
from nlnet.models.pairwise import Pairwise


class PatchSimilarity(Pairwise):
    """f = exp(-‖p_i - p_j‖² / h²) of patches p, normalised by its sum: how non-local means weighs pixels.

    ‖p_i - p_j‖² = ‖p_i‖² - 2 p_iᵀp_j + ‖p_j‖², and the softmax over j does not see ‖p_i‖². What is left is θ_iᵀφ_j with
    θ(p) = √2/h · [p, 1] and φ(p) = √2/h · [p, -‖p‖²/2]: an embedded Gaussian (equation 3, without a scale) of K + 1
    channels and nothing to learn.

    Args:
        channels: K.
        embedding: not used; every pairwise function takes it.
        h: the filter's strength, in the unit of the values. Patches at a distance well below h count fully.
    """

    def __init__(self, channels: int, embedding: int, *, h: float) -> None:
        super().__init__(channels, embedding)
        if not h > 0:
            raise ConfigError(f"h of non-local means must be positive, not {h}")
        self.theta = _Query(h)
        self.phi = _Key(h)

    def forward(self, theta_BND: Tensor, phi_BMD: Tensor, g_BMV: Tensor) -> Tensor:
        return ops.softmax_attention(theta_BND, phi_BMD, g_BMV, scale=1.0)

    def weights(self, theta_BND: Tensor, phi_BMD: Tensor) -> Tensor:
        return (theta_BND @ phi_BMD.mT).softmax(dim=-1)


class _Query(nn.Module):
    """θ(p) = √2/h · [p, 1]. [..., K] -> [..., K + 1]."""

    def __init__(self, h: float) -> None:
        super().__init__()
        self.factor = 2**0.5 / h

    def forward(self, patches: Tensor) -> Tensor:
        return self.factor * torch.cat([patches, torch.ones_like(patches[..., :1])], dim=-1)


class _Key(_Query):
    """φ(p) = √2/h · [p, -‖p‖²/2]. [..., K] -> [..., K + 1]."""

    def forward(self, patches: Tensor) -> Tensor:
        return self.factor * torch.cat([patches, -0.5 * patches.square().sum(dim=-1, keepdim=True)], dim=-1)


def non_local_means(pictures: Tensor, *, patch: int, h: float) -> Tensor:
    """Each pixel becomes the mean of all pixels, weighted by how alike their patches are. [B, 1, H, W] -> the same.

    Args:
        pictures: of one channel, in any unit.
        patch: the edge of the square patches, odd. At the borders the picture is mirrored.
        h: the filter's strength, in the unit of the values; larger smoothes more.
    """
    if patch < 1 or patch % 2 == 0:
        raise ConfigError(f"patch of non-local means is an odd number of pixels, not {patch}")
    edge = patch // 2
    # Only differences of patches count: around the mean, their squares are small and nothing is lost to rounding.
    mean_B1 = pictures.mean(dim=(2, 3))
    patches_BKN = F.unfold(F.pad(pictures, (edge, edge, edge, edge), mode="reflect"), patch) - mean_B1[..., None]
    patches_BNK = patches_BKN.mT
    similarity = PatchSimilarity(patch**2, 1, h=h)
    theta, phi = similarity.theta(patches_BNK), similarity.phi(patches_BNK)
    # g picks the centre pixel. A mean is linear, so it may pick behind it too; and g as wide as θ and φ is what the
    # kernel wants that does without an [N, N] matrix.
    y_BNK = similarity(theta, phi, F.pad(patches_BNK, (0, 1)))
    filtered: Tensor = (y_BNK[..., patch**2 // 2] + mean_B1).view(pictures.shape)
    return filtered
