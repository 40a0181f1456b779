"""The operations against equation 1 written out as loops in float64: forward and gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nlnet.ops import attention, concatenation, relu_concatenation, scaled_product, softmax_attention

SCALE = 0.7
Operation = Callable[[Tensor, Tensor, Tensor], Tensor]


@pytest.fixture(autouse=True, params=["form chosen by shape", "never with a matrix"])
def _form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that a loop can check are small, where the definition is taken: each test runs with the other forms too."""
    if request.param == "never with a matrix":
        monkeypatch.setattr(attention, "LARGEST_MATRIX", 0)
        monkeypatch.setattr(attention, "_TILE", 128)  # tiles of a few queries
        monkeypatch.setattr(concatenation, "_FEW_PAIRS", 0)


def softmax_loop(theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
    return equation_1(theta, phi, g, lambda t, p: (SCALE * (t @ p)).exp(), normalise_by_sum=True)


def product_loop(theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
    return equation_1(theta, phi, g, lambda t, p: t @ p, normalise_by_sum=False)


def concatenation_loop(a: Tensor, b: Tensor, g: Tensor) -> Tensor:
    return equation_1(a, b, g, lambda a_i, b_j: (a_i + b_j).clamp(min=0), normalise_by_sum=False)


def equation_1(
    queries: Tensor, keys: Tensor, g: Tensor, f: Callable[[Tensor, Tensor], Tensor], *, normalise_by_sum: bool
) -> Tensor:
    """y_i = Σ_j f(q_i, k_j) g_j / C(x), pair by pair. [B, N, …], [B, M, …], [B, M, V] -> [B, N, V]."""
    clips = []
    for q_N, k_M, g_M in zip(queries, keys, g, strict=True):
        rows = []
        for q in q_N:
            weights = [f(q, k) for k in k_M]
            total = sum(weights) if normalise_by_sum else len(weights)
            rows.append(sum(weight * g_j for weight, g_j in zip(weights, g_M, strict=True)) / total)
        clips.append(torch.stack(rows))
    return torch.stack(clips)


OPERATIONS: dict[str, tuple[Operation, Operation]] = {
    "softmax": (lambda theta, phi, g: softmax_attention(theta, phi, g, scale=SCALE), softmax_loop),
    "product": (scaled_product, product_loop),
    "concatenation": (relu_concatenation, concatenation_loop),
}
operations = pytest.mark.parametrize(("operation", "loop"), OPERATIONS.values(), ids=OPERATIONS)


def inputs(
    loop: Operation, b: int, n: int, m: int, d: int, v: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Random queries, keys and g for one operation: concatenation takes one number for each position."""
    generator = torch.Generator().manual_seed(n * 1000 + m)
    width = () if loop is concatenation_loop else (d,)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return normal(b, n, *width), normal(b, m, *width), normal(b, m, v)


def close(actual: Tensor, reference: Tensor, tolerance: float) -> bool:
    return bool((actual.double() - reference).abs().max() <= tolerance * reference.abs().max())


@operations
@pytest.mark.parametrize(
    ("b", "n", "m", "d", "v"),
    [(2, 7, 5, 4, 3), (1, 1, 1, 1, 1), (1, 1, 6, 3, 2), (3, 6, 1, 2, 4), (2, 12, 12, 1, 1), (1, 9, 16, 8, 5)],
)
def test_operation_is_equation_1_with_its_gradients(
    operation: Operation, loop: Operation, b: int, n: int, m: int, d: int, v: int
) -> None:
    exact = [tensor.requires_grad_() for tensor in inputs(loop, b, n, m, d, v)]
    fast = [tensor.detach().float().requires_grad_() for tensor in exact]
    reference, actual = loop(*exact), operation(*fast)
    assert actual.dtype == torch.float32
    assert actual.shape == (b, n, v)
    assert close(actual, reference, 1e-5)
    weight = torch.randn_like(reference)
    expected_gradients = torch.autograd.grad((reference * weight).sum(), exact)
    gradients = torch.autograd.grad((actual * weight.float()).sum(), fast)
    largest = max(gradient.abs().max() for gradient in expected_gradients)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert (gradient.double() - expected).abs().max() <= 1e-5 * largest


@operations
def test_gradcheck(operation: Operation, loop: Operation) -> None:
    # Concatenation has a kink where a_i + b_j = 0: random numbers stay clear of it.
    assert torch.autograd.gradcheck(operation, tuple(tensor.requires_grad_() for tensor in inputs(loop, 2, 5, 4, 3, 2)))


@operations
def test_float64_stays_float64(operation: Operation, loop: Operation) -> None:
    tensors = inputs(loop, 2, 6, 5, 4, 3)
    assert operation(*tensors).dtype == torch.float64
    assert close(operation(*tensors), loop(*tensors), 1e-13)


@operations
def test_many_positions_stay_accurate(operation: Operation, loop: Operation) -> None:
    """res3 of an 8-frame clip has 3136 queries and 784 keys; the same formula in whole matrices is the reference."""
    queries, keys, g = inputs(loop, 1, 3136, 784, 16, 4, torch.float32)
    q, k, values = queries.double(), keys.double(), g.double()
    if loop is softmax_loop:
        weights = (SCALE * (q @ k.mT)).softmax(-1)
    elif loop is product_loop:
        weights = q @ k.mT / 784
    else:
        weights = (q[..., None] + k[:, None]).relu() / 784
    assert close(operation(queries, keys, g), weights @ values, 1e-5)


@pytest.mark.parametrize(("n", "m", "d", "v"), [(2, 3, 6, 5), (20, 30, 2, 3)], ids=["few positions", "many positions"])
def test_both_orders_of_the_dot_product(n: int, m: int, d: int, v: int) -> None:
    """The cheaper of θ(φᵀg) and (θφᵀ)g is taken, and both are the same function."""
    from torch.utils.flop_counter import FlopCounterMode

    theta, phi, g = inputs(product_loop, 2, n, m, d, v)
    with FlopCounterMode(display=False) as counter:
        actual = scaled_product(theta, phi, g)
    assert counter.get_total_flops() == 2 * 2 * min((n + m) * d * v, n * m * (d + v))
    assert close(actual, product_loop(theta, phi, g), 1e-13)


def test_concatenation_with_ties_and_at_the_kink() -> None:
    """Equal b, and pairs with a_i + b_j = 0 exactly, where ReLU and its gradient are zero as in PyTorch's relu."""
    a = torch.tensor([[-2.0, -1.0, 0.0, 1.0, 1.0, 5.0, -9.0]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[1.0, 1.0, -1.0, 2.0, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    g = torch.randn(1, 6, 3, dtype=torch.float64, requires_grad=True)
    reference = (a[..., None] + b[:, None]).relu() @ g / 6
    actual = relu_concatenation(a, b, g)
    torch.testing.assert_close(actual, reference)
    weight = torch.randn_like(reference)
    torch.testing.assert_close(
        torch.autograd.grad((actual * weight).sum(), [a, b, g]),
        torch.autograd.grad((reference * weight).sum(), [a, b, g]),
    )


def test_concatenation_with_a_large_offset_keeps_its_accuracy() -> None:
    """a and b are only defined up to a constant that moves from one to the other: it must not cost digits."""
    a, b, g = inputs(concatenation_loop, 2, 9, 8, 1, 3)
    offset = 1000.0  # 10 bits of float32's 24
    a, b = (a + offset).float(), (b - offset).float()
    assert close(relu_concatenation(a, b, g.float()), concatenation_loop(a.double(), b.double(), g), 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_concatenation_accumulates_in_float32_under_autocast(dtype: torch.dtype) -> None:
    a, b, g = inputs(concatenation_loop, 1, 40, 3000, 1, 4, dtype)
    # Sums of one sign, which stop growing in half precision, and a·Σg against Σb·g of opposite signs, which cancel.
    a, g = a - 2, g + 1
    reference = (a.double()[..., None] + b.double()[:, None]).relu() @ g.double() / 3000
    with torch.autocast("cpu", dtype=dtype):
        actual = relu_concatenation(a, b, g)
    assert actual.dtype == dtype
    assert close(actual, reference, torch.finfo(dtype).eps)  # the rounding of the result and no more


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_softmax_with_logits_beyond_half_precision(dtype: torch.dtype) -> None:
    """Unscaled products of 1024 channels pass 65504, the largest float16; the weights must still be finite."""
    theta = torch.full((1, 4, 1024), 10.0, dtype=dtype)
    g = torch.randn(1, 4, 3, dtype=dtype)
    actual = softmax_attention(theta, theta, g, scale=1.0)
    assert close(actual, g.double().mean(1, keepdim=True).expand(-1, 4, -1), 2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("clips", [1, 7, 300, 3136, 10**6])
def test_tiles_cover_all_pairs_within_their_bound(clips: int) -> None:
    queries, keys = torch.empty(clips, 200, 1, device="meta"), torch.empty(clips, 70, 1, device="meta")
    pairs = torch.zeros(200, 70, dtype=torch.int)
    for rows, tiles in attention._tiles(queries, keys):
        for columns in tiles:
            pairs[rows, columns] += 1
            size = pairs[rows, columns].numel()
            assert 4 * clips * size <= attention._TILE or size == 1
    assert (pairs == 1).all()


@operations
def test_transposed_inputs_give_the_same(operation: Operation, loop: Operation) -> None:
    queries, keys, g = inputs(loop, 2, 6, 5, 4, 3)
    strided = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in (queries, keys, g)]
    assert not strided[2].is_contiguous()
    torch.testing.assert_close(operation(*strided), operation(queries, keys, g))


@operations
@pytest.mark.parametrize("d", [256, 512])
def test_sizes_of_a_network_have_exact_gradients(operation: Operation, loop: Operation, d: int) -> None:
    """Whole matrices in float64 are the reference; M of no round size, more than a run of the running sums."""
    exact = [tensor.requires_grad_() for tensor in inputs(loop, 2, 300, 197, d, 256)]
    fast = [tensor.detach().float().requires_grad_() for tensor in exact]
    q, k, values = exact
    if loop is softmax_loop:
        reference = (SCALE * (q @ k.mT)).softmax(-1) @ values
    elif loop is product_loop:
        reference = q @ k.mT @ values / 197
    else:
        reference = (q[..., None] + k[:, None]).relu() @ values / 197
    actual = operation(*fast)
    assert close(actual, reference, 1e-5)
    weight = torch.randn_like(reference)
    expected_gradients = torch.autograd.grad((reference * weight).sum(), exact)
    gradients = torch.autograd.grad((actual * weight.float()).sum(), fast)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        assert close(gradient, expected, 1e-5)


@pytest.mark.parametrize("v", [6, 4], ids=["g as wide", "g narrower"])
def test_gradients_of_softmax_under_autocast_are_those_of_float32_but_for_rounding(v: int) -> None:
    exact = [tensor.requires_grad_() for tensor in inputs(softmax_loop, 2, 40, 30, 6, v, torch.float32)]
    rounded = [tensor.detach().clone().requires_grad_() for tensor in exact]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = softmax_attention(*rounded, scale=SCALE)
    assert actual.dtype == torch.bfloat16
    reference = softmax_loop(*exact)
    assert close(actual, reference.double(), 0.02)
    weight = torch.randn_like(reference)
    gradients = torch.autograd.grad((actual.float() * weight).sum(), rounded)
    for gradient, expected in zip(gradients, torch.autograd.grad((reference * weight).sum(), exact), strict=True):
        assert gradient.dtype == torch.float32
        assert close(gradient, expected.double(), 0.03)
