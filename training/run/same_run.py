"""What may change when a run is continued, and what makes it another run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.schema import flat

MAY_CHANGE = ("schedule", "metric", "runtime", "plugins")
MAY_CHANGE_WITHIN = (
    "data.cache_mb",
    "data.num_workers",
    "data.exclude",  # whose effect is part of the images' identity
    "model.encoder_weights",
    "loss.network_weights",
    "loss.second_weights",
    "optimizer.lr",
    "optimizer.mapping_lr",
    "optimizer.g_lr",
    "optimizer.d_lr",
    "optimizer.lr_decay",
    "optimizer.clip_grad_norm",
)
REASONS = {  # why the others may not, by the longest beginning of a key
    "recipe": "it is another recipe",
    "schedule.batch_size": "checkpoints count whole steps",
    "runtime.seed": "every random draw follows from it",
    "data": "the stream of images would be another",
    "model": "the checkpoint holds the weights of those networks",
    "loss": "the result would be that of neither loss",
    "augmentation": "its strength has followed from it",
    "optimizer": "the optimizer's state was formed with it",
    "optimizer.muon_lr": "the checkpoint holds the state of other optimizers",
    "transfer": "the run began with those weights",
    "freeze_d": "the optimizer's state is of the layers that are trained",
}


def find_changes(
    saved: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    saved_identity: Mapping[str, str],
    identity: Mapping[str, str],
) -> dict[str, tuple[Any, Any]]:
    """{key: (before, now)} of what this start of a run changes.

    Raises ValueError, which names the key and the reason, for what makes another run.

    Args:
        saved: the configuration in the checkpoint, as plain values.
        config: that of this start.
        saved_identity: {key: hash of the content} of what paths lead to, from the checkpoint.
        identity: the same for this start. Where both are known, the content is compared and not the path.
    """
    before, now = flat(saved), flat(config)
    changes = {key: (before.get(key), value) for key, value in now.items() if before.get(key) != value}
    for key in sorted(changes, key=lambda key: key != "recipe"):  # the first that is named
        old, new = changes[key]
        if not _may_change(key, old, new) and not (key in saved_identity and key in identity):
            raise ValueError(
                f"the run folder holds a run with {key} = {old!r}, this command says {new!r}. That cannot "
                f"change within a run, {_reason(key)}: {_WAYS_ON}"
            )
    for key, value in identity.items():
        if saved_identity.get(key, value) != value:
            option = key if key in now else key.rpartition(".")[0]
            raise ValueError(
                f"the run folder holds a run on other data: {option} was {before.get(option)!r} and is "
                f"{now.get(option)!r}, and names, sizes or contents differ. That cannot change within a run, "
                f"{_reason(key)}: {_WAYS_ON}"
            )
    return changes


_WAYS_ON = (
    "use another --out, or --no-resume to begin again, which keeps the earlier run in a folder beside it"
)


def _may_change(key: str, before: Any, now: Any) -> bool:
    if key == "optimizer.muon_lr":
        return before is not None and now is not None
    if key in ("schedule.batch_size", "runtime.seed"):
        return False
    return key.split(".")[0] in MAY_CHANGE or key in MAY_CHANGE_WITHIN


def _reason(key: str) -> str:
    parts = key.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next(
        (f"as {REASONS[name]}" for name in names if name in REASONS), "as the result would be of neither"
    )
