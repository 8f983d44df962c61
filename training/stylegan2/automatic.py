"""What follows the image size, the processes and the batch where a configuration leaves it open.

The formulas are those of stylegan2-ada-pytorch's `auto`. There R1's weight and the EMA's half-life always
follow the automatic batch; here they follow the batch of the run.
"""

from __future__ import annotations

from configs.stylegan2 import ResolvedStyleGAN2, StyleGAN2Run
from training.stylegan2.objective import OBJECTIVES


def automatic_batch(resolution: int, world_size: int) -> int:
    """Images of a step: resolution is the longer side in pixels, world_size the number of processes."""
    return max(min(world_size * min(4096 // resolution, 32), 64), world_size)


def automatic_r1_gamma(resolution: int, batch_size: int) -> float:
    """The weight of lazy R1; the objective r3 has another formula."""
    return 0.0002 * resolution**2 / batch_size


def automatic_half_life_kimg(batch_size: int) -> float:
    """The EMA's half-life in thousands of images."""
    return batch_size * 10 / 32


def describe_batch(
    config: StyleGAN2Run, resolved: ResolvedStyleGAN2, img_size: tuple[int, int], world_size: int
) -> list[str]:
    """A line each for R1's weight and the EMA's half-life: the value, and where it comes from.

    Where the batch is not the automatic one, a line also has the value that this would give.

    Args:
        config: the run as configured.
        resolved: what `resolve` made of it.
        img_size: height and width in pixels.
        world_size: number of processes.
    """
    resolution, batch_size = max(img_size), resolved.schedule.batch_size
    automatic = automatic_batch(resolution, world_size)

    def line(name: str, value: float, given: float | None, of_automatic: float) -> str:
        if given is not None:
            return f"{name} {value:g}: as given, whatever the batch; automatic: {of_automatic:g}"
        if batch_size == automatic:
            return f"{name} {value:g}: follows the automatic batch of {automatic}"
        return (
            f"{name} {value:g}: follows the batch of {batch_size}; the automatic batch of {automatic} would "
            f"give {of_automatic:g}"
        )

    lines = []
    if OBJECTIVES[resolved.loss.objective].is_lazy:  # the others' weight does not follow the batch
        gamma = automatic_r1_gamma(resolution, automatic)
        lines.append(line("loss.r1_gamma", resolved.loss.r1_gamma, config.loss.r1_gamma, gamma))
    half_life = automatic_half_life_kimg(automatic)
    of_run, given = resolved.schedule.ema_half_life_kimg, config.schedule.ema_half_life_kimg
    return [*lines, line("schedule.ema_half_life_kimg", of_run, given, half_life)]
