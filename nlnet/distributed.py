"""The process group: exact no-ops in one process, so that no caller asks whether it is one of many.

Processes are started by ``torchrun``, which sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

Result = TypeVar("Result")


def rank() -> int:
    """This process' number, 0 to ``world_size() - 1``."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that work on this job."""
    return dist.get_world_size() if dist.is_initialized() else 1


def launched_rank() -> int:
    """This process' number as its launcher gave it, whether or not the group exists yet, or any more."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process' number on its machine: which GPU it takes."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main() -> bool:
    """Whether this is the process that prints and writes files."""
    return rank() == 0


def barrier() -> None:
    """Waits until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def gather(value: Any) -> list[Any]:
    """One plain value or CPU tensor of each process -> the list of all of them, in rank order, on all processes."""
    if not dist.is_initialized():
        return [value]
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def gather_on_main(value: Any) -> list[Any]:
    """As ``gather``, for what is too large to be everywhere: an empty list on the other processes."""
    if not dist.is_initialized():
        return [value]
    gathered: list[Any] | None = [None] * world_size() if is_main() else None
    dist.gather_object(value, gathered, dst=0)
    return gathered or []


def broadcast(value: Any) -> Any:
    """The main process' value, on all processes."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def sum_across(values: torch.Tensor) -> torch.Tensor:
    """[any shape] of each process -> their sum, on all processes."""
    if dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
    return values


def any_of(flags: torch.Tensor) -> list[bool]:
    """Flags [n] of each process -> for each whether one process has it, on all processes, in one exchange."""
    votes = flags.to(torch.int32)
    if dist.is_initialized():
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
    return [bool(vote) for vote in votes.tolist()]


def device(name: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` -> this process' device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device("cuda", local_rank()) if name == "cuda" else torch.device(name)


@contextmanager
def process_group(on: torch.device, *, timeout_s: float = 600.0) -> Iterator[None]:
    """Joins the other processes that ``torchrun`` started, for the length of the block.

    Does nothing without ``torchrun``, or when a group exists already. NCCL on GPUs, gloo on CPUs. A peer that does
    not answer for ``timeout_s`` seconds ends the job (PyTorch's own limits are 10 and 30 minutes).
    """
    if "WORLD_SIZE" not in os.environ or dist.is_initialized():
        yield
        return
    store, group_rank, size = next(rendezvous("env://"))
    # torchrun keeps one store over restarts: without a prefix, restarted ranks meet the addresses of the dead ones.
    store = PrefixStore(f"nlnet/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    if on.type == "cuda":
        torch.cuda.set_device(on)
    backend = "nccl" if on.type == "cuda" else "gloo"
    dist.init_process_group(
        backend, store=store, rank=group_rank, world_size=size, timeout=timedelta(seconds=timeout_s)
    )
    try:
        yield
    except BaseException:
        if backend == "gloo":  # NCCL would wait for a peer that may be gone
            dist.destroy_process_group()
        raise
    else:
        dist.destroy_process_group()


def replicate(model: nn.Module, on: torch.device) -> nn.Module:
    """The model as the training step calls it: it averages its gradients over all processes in the backward pass."""
    if not dist.is_initialized():
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[on.index] if on.type == "cuda" else None)


def without_averaging(replica: nn.Module, *, when: bool) -> AbstractContextManager[None]:
    """In the block, ``replicate``'s averaging waits for a later backward pass (gradient accumulation)."""
    if when and isinstance(replica, nn.parallel.DistributedDataParallel):
        return replica.no_sync()
    return nullcontext()


def same_buffers(model: nn.Module) -> None:
    """Gives all processes the main process' buffers: batch-norm statistics are its own until the next training step."""
    if dist.is_initialized():
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)


def on_main(work: Callable[[], Result]) -> Result:
    """Does ``work`` on the main process alone; its result, or its error, is everybody's."""
    outcome: tuple[Any, Exception | None] = (None, None)
    if is_main():
        try:
            outcome = (work(), None)
        except Exception as error:  # whatever it is, the other processes must not wait for it
            outcome = (None, error)
    result, raised = broadcast(outcome)
    if raised is not None:
        raise raised
    return result  # type: ignore[no-any-return]
