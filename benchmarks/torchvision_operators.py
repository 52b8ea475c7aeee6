"""torchvision's wheels on PyPI need CUDA. What timm takes from it does not, but importing it asks for two operators."""

import functools
from typing import Any


@functools.cache  # an operator lives as long as its library
def register() -> Any:
    """Names the operators, where torch has none."""
    import torch

    if torch.version.cuda:  # the wheels suit this torch
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
