"""Non-local blocks in any network, trained or not, behind the modules that you name; its code stays as it is.

A block becomes the child ``non_local`` of the module that it follows. The state dict keeps every name that it had and
gains ``PLACE.non_local.…``, so that weights of the network without blocks still fit (``strict=False``).
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from nlnet.errors import ConfigError

CHILD = "non_local"
Network = TypeVar("Network", bound=nn.Module)


def insert_non_local(
    model: Network, places: Mapping[str, Callable[[int], nn.Module] | nn.Module], *, example: Any = None
) -> Network:
    """Lets a block follow each named module, in place; returns the model.

    Args:
        model: any network. Its named outputs must be [B, C, T], [B, C, H, W] or [B, C, T, H, W].
        places: module name (as ``model.named_modules()`` has it) -> what makes a block from C, such as
            ``NonLocalBlock`` or a ``functools.partial`` of it, or the block itself.
        example: an input of the model (or a tuple of inputs), of any batch size. The model runs on it twice, without
            gradients and in evaluation mode, to find each C and to see that each block is used exactly once. Without
            an example, blocks must be given ready-made and nothing is run.

    A block of nlnet starts as the identity: the output of the model is unchanged until it is trained. Blocks get the
    device, number type and training mode of the place. Make the optimiser afterwards, or add the new parameters to it.

    Raises:
        ConfigError: no such module, or its output is not one tensor of a call; the model is left as it was.
    """
    modules = {name: _find(model, name) for name in places}
    outputs = {} if example is None else _outputs(model, modules, example)
    likes = {name: _feature_map(name, outputs[name]) for name in outputs}
    blocks = {}
    for name, make in places.items():
        if isinstance(make, nn.Module):
            blocks[name] = make
        elif name in likes:
            blocks[name] = make(likes[name].shape[1])
        else:
            raise ConfigError(
                f"{name}: how many channels it has shows in a run only; give example=INPUT, or a block that is made: "
                f"{{'{name}': NonLocalBlock(CHANNELS)}}"
            )
    if len(set(map(id, blocks.values()))) < len(blocks):
        raise ConfigError("one block at several places would share its weights; give NonLocalBlock or a function")
    for name, module in modules.items():
        like = likes.get(name, next(module.parameters(), next(model.parameters(), None)))
        if like is not None:
            blocks[name].to(like.device, like.dtype)
        _attach(module, blocks[name].train(module.training))
    if example is not None:
        try:
            _check_use(model, modules, example)
        except Exception:
            remove_non_local(model, modules)
            raise
    return model


def remove_non_local(model: Network, places: Iterable[str]) -> Network:
    """Takes the blocks that ``insert_non_local`` put behind these modules out again, in place; returns the model."""
    for name in places:
        module = model.get_submodule(name)
        if CHILD not in dict(module.named_children()):
            raise ConfigError(f"{name or 'the model'}: no non-local block follows it")
        delattr(module, CHILD)
        for key, hook in list(module._forward_hooks.items()):
            if hook is _through_block:
                del module._forward_hooks[key]
    return model


def _check_use(model: nn.Module, places: Iterable[str], example: Any) -> None:
    """Runs the model with its blocks, and refuses places whose block is not used once."""
    blocks = {name: model.get_submodule(f"{name}.{CHILD}" if name else CHILD) for name in places}
    for name, outputs in _outputs(model, blocks, example).items():
        if len(outputs) != 1:
            raise ConfigError(f"{name}: runs what is inside it in its own way; name one of its parts")


def _attach(module: nn.Module, block: nn.Module) -> None:
    module.add_module(CHILD, block)
    if not isinstance(module, nn.Sequential):  # one of these runs its new child by itself, as the last
        module.register_forward_hook(_through_block)


def _through_block(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    """The hook. It finds the block through the module that calls it: copies of the model have their own."""
    followed: Tensor = module.get_submodule(CHILD)(output)
    return followed


def _find(model: nn.Module, name: str) -> nn.Module:
    """The module of this name, if a block can follow it."""
    known = dict(model.named_modules())
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; model.named_modules() lists them"
        raise ConfigError(f"{name}: the network has no such module{hint}")
    module: nn.Module = known[name]
    if hasattr(module, CHILD):
        raise ConfigError(f"{name or 'the model'}: already has a {CHILD}")
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    if isinstance(module, containers) and type(module).forward is not nn.Sequential.forward:
        raise ConfigError(
            f"{name}: its parts are run one by one (it is of type {type(module).__name__}); name one of them"
        )
    return module


def _feature_map(name: str, outputs: list[Any]) -> Tensor:
    """The one tensor that a module gave, [B, C, …] with one to three axes of positions."""
    if len(outputs) != 1:
        raise ConfigError(f"{name}: used {len(outputs)} times in one run; a block can follow what is used once")
    (output,) = outputs
    if not isinstance(output, Tensor):
        raise ConfigError(
            f"{name or 'the model'}: its output is of type {type(output).__name__}; name a module that gives a tensor"
        )
    if not 3 <= output.dim() <= 5 or not output.is_floating_point():
        raise ConfigError(
            f"{name or 'the model'}: gives {output.dtype} {list(output.shape)}; a block follows numbers of shape "
            "[B, C, T], [B, C, H, W] or [B, C, T, H, W]"
        )
    return output


def _outputs(model: nn.Module, modules: Mapping[str, nn.Module], example: Any) -> dict[str, list[Any]]:
    """What these modules give in one run of the model on the example, call by call. The model stays as it is."""
    seen: dict[str, list[Any]] = {name: [] for name in modules}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, inputs, output: seen[name].append(output)

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return seen
