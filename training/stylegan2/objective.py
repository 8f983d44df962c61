"""What generator and discriminator minimise, and how the discriminator is regularised."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from training.gan_losses import (
    discriminator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    nonsaturating_generator_loss,
    relativistic_loss,
)


class Objective(NamedTuple):
    """Losses per sample, [N,...] logits -> [N], and their regularisation.

    Attributes:
        generator: of the logits of fakes and of real images.
        discriminator: of the logits of real images and of fakes.
        is_paired: whether only differences of logits count: the generator's loss needs real images, too.
        is_lazy: R1 and the path length have steps of their own, every few steps.
        has_r1_r2: gradients at real images and at fakes are penalised in every step.
    """

    generator: Callable[[Tensor, Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]
    is_paired: bool = False
    is_lazy: bool = False
    has_r1_r2: bool = False


OBJECTIVES = {
    "nonsaturating": Objective(
        lambda fake, real: nonsaturating_generator_loss(fake), discriminator_loss, is_lazy=True
    ),
    "r3": Objective(relativistic_loss, relativistic_loss, is_paired=True, has_r1_r2=True),
    "hinge": Objective(lambda fake, real: hinge_generator_loss(fake), hinge_discriminator_loss),
}
