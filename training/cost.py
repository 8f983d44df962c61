"""What a run needs, told before its first step: parameters and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ganmod.data.seeding import preserve_random_state
from ganmod.machine import resident_mib


def count_parameters(trained: Mapping[str, Sequence[Tensor]]) -> str:
    """The numbers of trained parameters by network, such as "G 1.23 M, D 0.98 M"."""
    counts = {name: sum(p.numel() for p in parameters) for name, parameters in trained.items()}
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

    with preserve_random_state(), torch.autograd.graph.saved_tensors_hooks(count, lambda saved: saved):
        result = forward()  # keeps what was saved, so that no address is used twice
    del result
    return sum(sizes.values())


def estimate_memory_mib(
    trained: Iterable[Tensor],
    networks: Iterable[nn.Module],
    forward: Callable[[], object],
    *,
    images: int,
    microbatch: int,
    device: torch.device,
    has_averages: bool = False,
) -> float:
    """About the peak of a run in MiB: of the process on a CPU, of torch's tensors on a GPU.

    What is there now, gradients, two averages of Adam, and what a pass keeps; regularisations that are
    differentiated twice may need more.

    Args:
        trained: the parameters that are trained.
        networks: all that the pass uses, whose weights are there anyway.
        forward: the pass of `images` images that keeps most, in the precision of the run.
        images: of that pass.
        microbatch: images of a pass in training.
        device: of the networks.
        has_averages: whether Adam's are there already, as in a resumed run.
    """
    trained_bytes = sum(p.numel() * p.element_size() for p in trained)
    weights = [w for network in networks for w in (*network.parameters(), *network.buffers())]
    kept = kept_for_backward(forward, without=weights) * microbatch / images
    if device.type == "cuda":
        now = torch.cuda.memory_allocated(device) / 2**20
    else:
        now = resident_mib("VmRSS") or 0.0
    return now + ((1 if has_averages else 3) * trained_bytes + kept) / 2**20
