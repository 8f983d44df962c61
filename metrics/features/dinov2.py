"""DINOv2's class token (Oquab et al. 2023), through timm, from a local file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganmod.features.vgg import FeatureError
from ganmod.features.weights_file import read_weights
from ganmod.io.model_file import load_state
from metrics.features.base import normalize_imagenet

NAME = "dinov2"
SIZE = 224  # pixels: 16 x 16 patches
# timm's model by the width of the class token in the file.
ARCHITECTURES = {
    384: "vit_small_patch14_dinov2",
    768: "vit_base_patch14_dinov2",
    1024: "vit_large_patch14_dinov2",
    1536: "vit_giant_patch14_dinov2",
}


class DINOv2Features(nn.Module):
    """The class token after the last normalisation."""

    def __init__(self, path: str | Path | None) -> None:
        """Load Meta's (such as dinov2_vitl14_pretrain.pth) or timm's weights; the file determines the size.

        Raises FeatureError if timm is not installed, or the file is missing or not a DINOv2 network.
        """
        super().__init__()
        vision_transformer = _timm()
        if path is None or not Path(path).is_file():
            raise FeatureError(
                f"DINOv2 weights not found at {path or 'a default path: there is none'}. Supply the file, "
                "such as dinov2_vitl14_pretrain.pth (ViT-L/14, which published FD_DINOv2 figures use), with "
                "--feature-weights PATH"
            )
        state, self.sha256 = read_weights(Path(path), ())
        token = state.get("cls_token")
        width = None if token is None else token.shape[-1]
        if width not in ARCHITECTURES or "register_tokens" in state or "reg_token" in state:
            raise FeatureError(
                f"{path} is not a DINOv2 network (class token of {width} numbers, registers or none): "
                "expected one without registers, such as dinov2_vitl14_pretrain.pth"
            )
        self.dim, self.architecture = int(width), ARCHITECTURES[int(width)]
        build = getattr(vision_transformer, self.architecture)
        self.network = build(pretrained=False, num_classes=0, img_size=SIZE)
        # timm renames tensors, and resamples the position embeddings from 37 x 37 to 16 x 16 patches.
        converted = vision_transformer.checkpoint_filter_fn(dict(state), self.network)
        load_state(self.network, converted, source=str(path))

    def forward(self, x: Tensor) -> Tensor:
        """RGB [N,3,224,224] in [0,1] -> [N,dim]."""
        tokens: Tensor = self.network.forward_features(normalize_imagenet(x))  # [N, 1 + 256, dim]
        return tokens[:, 0]


def _timm() -> Any:
    try:
        from timm.models import vision_transformer
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "timm":
            raise
        raise FeatureError(
            "the feature space dinov2 needs timm, which is not installed: pip install 'ganmod[dino]'"
        ) from error
    return vision_transformer


def dinov2_fingerprint(network: DINOv2Features) -> str:
    """Identifies the features, including timm, which may differ from torch.hub in the last digits."""
    return (
        f"dinov2, {network.architecture} of timm, {SIZE} px bicubic antialiased, class token, weights sha256 "
        f"{network.sha256}"
    )
