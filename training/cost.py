"""What a run needs, told before its first step: parameters and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from ganmod.machine import resident_mib


def count_parameters(networks: Mapping[str, nn.Module]) -> str:
    """The numbers of parameters, such as "G 1.23 M, D 0.98 M"."""
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    return ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())


def kept_for_backward(forward: Callable[[], object], *, without: Iterable[Tensor] = ()) -> int:
    """Bytes that a forward pass keeps for its backward pass; torch's random state is left as it was.

    without: tensors that are there anyway, such as parameters.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in without}
    sizes: dict[int, int] = {}

    def count(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return saved.detach()  # the tensor itself would be a circle

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(count, lambda saved: saved):
        result = forward()  # keeps what was saved, so that no address is used twice
    del result
    return sum(sizes.values())


def estimate_memory_mib(
    networks: Iterable[nn.Module],
    forward: Callable[[], object],
    *,
    images: int,
    microbatch: int,
    device: torch.device,
) -> float:
    """About the peak of a run in MiB: of the process on a CPU, of torch's tensors on a GPU.

    What is there now, gradients, two averages of Adam, and what a pass keeps; regularisations that are
    differentiated twice may need more.

    Args:
        networks: all that are there; those that take gradients are trained.
        forward: the pass of `images` images that keeps most.
        images: of that pass.
        microbatch: images of a pass in training.
        device: of the networks.
    """
    parameters = [p for network in networks for p in network.parameters()]
    trained = sum(p.numel() * p.element_size() for p in parameters if p.requires_grad)
    kept = kept_for_backward(forward, without=parameters) * microbatch / images
    if device.type == "cuda":
        now = torch.cuda.memory_allocated(device) / 2**20
    else:
        now = resident_mib("VmRSS") or 0.0
    return now + (3 * trained + kept) / 2**20
