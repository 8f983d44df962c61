"""StyleGAN2 on the inputs' faces from them to the files: model, figures, a sheet of the seeds 0 to 63."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.schema import load_stylegan2_config
from configs.stylegan2 import ResolvedStyleGAN2
from ganmod.data.seeding import seed_latents
from ganmod.io.images import make_grid, to_uint8
from ganmod.stylegan2 import Generator
from ganmod.stylegan2.stylegan2_file import save_stylegan2
from metrics.image_sets.features import measure_generator, measure_set
from released.faces import DeviceAugmenter, DeviceDraws, FaceStore
from released.gan_job import GanParts, choose_form, distances, run_gan
from released.inputs import read_inputs
from released.jobs import GanJob
from released.timed_loop import FlatGradients, JobOptions, Trained, captured, train_until
from training.ema import copy_buffers, ema_decay, update_ema
from training.stylegan2.build import AnyDiscriminator, build_networks, build_optimizers, resolve
from training.stylegan2.objective import OBJECTIVES
from training.stylegan2.samples import fakes_by_index
from training.stylegan2.step import FirstOrder, discriminator_phase, generator_phase

SHEET_SEEDS, SHEET_SIDE = 64, 8
BATCH = 64  # of the evaluation
LOSSES = ("loss/G", "loss/D", "logits/real", "logits/fake")


def run_stylegan2(
    job: GanJob, folder: Path, out: Path, options: JobOptions
) -> tuple[Generator, dict[str, Any]]:
    """As `run_gan` -> averaged generator, figures.

    Raises ValueError for an objective with lazy regularisation, and as `run_job`.
    """
    inputs = read_inputs(folder)
    wanted = load_stylegan2_config(job.preset, {**job.changes, **options.changes})
    resolution, device = wanted.data.resolution, options.device
    faces = FaceStore.read(folder, resolution[0] if isinstance(resolution, tuple) else resolution, device)
    size = faces.size, faces.size
    config = resolve(wanted, size, 1, device)
    if OBJECTIVES[config.loss.objective].is_lazy or config.loss.style_mixing_prob or config.data.conditional:
        raise ValueError(
            f"{job.name} trains unconditional models by hinge or r3, without style mixing: for others use "
            "`ganmod train stylegan2`"
        )
    parts = GanParts(
        config,
        inputs,
        faces,
        build=lambda: dict(
            zip("GD", build_networks(config.model, size, 0, precision=config.runtime.precision), strict=True)
        ),
        stored=("G",),
        fit=lambda networks: fit_stylegan2(config, networks["G"], networks["D"], faces, options),
        save=lambda path, G, facts: save_stylegan2(path, G_ema=G, training=facts, half=True),
        sheet=draw_sheet,
        evaluate=lambda G, space: _evaluate(G, faces, config, space),
    )
    return run_gan(job, folder, out, options, parts)


def fit_stylegan2(
    config: ResolvedStyleGAN2,
    G: Generator,
    D: AnyDiscriminator,
    faces: FaceStore,
    options: JobOptions,
) -> tuple[Generator, Trained, dict[str, Any]]:
    """Train G and D, which lie on the faces' device -> (averaged G, what it took, {"graph", "forms_ms"}).

    A step is that of `training.train_stylegan2`, without microbatches; on CUDA, each of its two phases is one
    CUDA graph where `options` say so and it can be captured. forms_ms: of AdaConv, see `choose_form`.
    """
    device, batch, loss = faces.images.device, config.schedule.batch_size, config.loss
    draws = DeviceDraws(config.runtime.seed, 0, batch, device, torch.float32, None)
    augmenter = DeviceAugmenter(config.augmentation, 0.0)
    networks = FirstOrder.of(G, D, compiled=False)
    G_ema = copy.deepcopy(G).eval().requires_grad_(False)
    ema, parameters = (dict(net.named_parameters()) for net in (G_ema, G))
    g_optimizer, d_optimizer = build_optimizers(G, D, config.optimizer, loss)
    g_params, d_params = (
        [p for group in optimizer.param_groups for p in group["params"]]
        for optimizer in (g_optimizer, d_optimizer)
    )
    g_gradients, d_gradients = FlatGradients(g_params), FlatGradients(d_params)
    layout = torch.channels_last if config.runtime.channels_last else torch.contiguous_format

    def draw_reals() -> Tensor:
        return faces.draw(batch, mirror=config.data.mirror).contiguous(memory_format=layout)

    def generator() -> tuple[Tensor, Tensor]:
        """Losses [1] and the mean of w [w_dim]; the gradients are set."""
        D.requires_grad_(False)
        g_gradients.flat.zero_()
        losses, ws = generator_phase(G, networks, loss, draws, augmenter, [0], draw_reals(), None)
        losses.mean().backward()
        return losses.detach().mean()[None], ws.mean(dim=0)

    def discriminator() -> Tensor:
        """Loss, mean logits of reals and of fakes [3]; the gradients are set."""
        for p in d_params:
            p.requires_grad_(True)
        d_gradients.flat.zero_()
        terms = discriminator_phase(G, D, networks, loss, draws, augmenter, [0], draw_reals(), None)
        (terms.total(loss.r1_gamma) / batch).backward()
        return torch.stack([terms.losses.detach().mean(), terms.real.mean(), terms.fake.mean()])

    on_gpu = device.type == "cuda"
    forms = choose_form([G], generator, device) if on_gpu else {}
    if forms:
        options.log(f"AdaConv's forms, ms of a generator phase: {forms}")
    run_g: Callable[[], tuple[Tensor, Tensor]] = generator
    run_d: Callable[[], Tensor] = discriminator
    is_captured = False
    if on_gpu and options.graph:
        graph_g, graph_d = captured(generator, options.log), captured(discriminator, options.log)
        run_g, run_d = graph_g or generator, graph_d or discriminator
        is_captured = graph_g is not None and graph_d is not None

    def step(nimg: int) -> tuple[Tensor, Tensor]:
        g_loss, w_mean = run_g()
        g_ok = g_gradients.clip_(None)
        g_optimizer.step()
        G.mapping.update_w_avg(w_mean[None])
        d_losses = run_d()
        d_ok = d_gradients.clip_(None)
        d_optimizer.step()
        half_life, rampup = config.schedule.ema_half_life_kimg, config.schedule.ema_rampup
        update_ema(ema, parameters, ema_decay(batch, nimg, half_life_kimg=half_life, rampup=rampup))
        copy_buffers(G_ema, G)
        return torch.cat([g_loss, d_losses]).float(), g_ok & d_ok

    limits: dict[str, Any] = {"deadline": options.deadline, "steps": options.steps, "log": options.log}
    trained = train_until(step, LOSSES, batch_size=batch, device=device, **limits)
    for p in (*g_params, *d_params):
        p.grad = None
    return G_ema, trained, {"graph": is_captured, "forms_ms": forms}


@torch.no_grad()
def draw_sheet(G: Generator) -> Any:
    """The seeds 0 to 63 in rows of 8, uint8 [H,W,3], with the stored noise and without truncation."""
    z = seed_latents(range(SHEET_SEEDS), G.z_dim).to(next(G.parameters()).device)
    images = [to_uint8((G(part, noise_mode="const").float().cpu() + 1) / 2) for part in z.split(SHEET_SIDE)]
    return make_grid([list(row) for row in images], gap=2)


def _evaluate(G: Generator, faces: FaceStore, config: ResolvedStyleGAN2, space: Any) -> dict[str, Any]:
    """Distances of `config.metric.num_images` samples to all faces."""
    device = faces.images.device
    begin = time.monotonic()
    fakes = measure_generator(
        fakes_by_index(G, None, config.runtime.seed, device, torch.float32),
        config.metric.num_images,
        space,
        keep=True,
        batch_size=BATCH,
    )
    reals = measure_set(
        lambda indices: list(faces.images[indices.to(device)]), len(faces), space, keep=True, batch_size=BATCH
    )
    return {
        "distances": distances(fakes, reals, space),
        "features": space.name,
        "fakes": fakes.count,
        "reals": reals.count,
        "seconds": round(time.monotonic() - begin, 1),
    }
