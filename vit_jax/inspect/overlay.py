"""Attention over patches, laid over the picture it belongs to."""

import numpy as np


def overlay_mask(weights: np.ndarray, stride: int, image_size: tuple[int, int]) -> np.ndarray:
    """Attention as a mask over the image, drawn as for the paper (figures 6 and 14; its author in issue 27).

    Divided by the largest weight, resized by Lanczos, blurred by a Gaussian of one patch, brought to [0, 1].

    Args:
      weights: (h, w) of the patches.
      stride: pixels from one patch to the next.
      image_size: (height, width) in pixels; where patches reach beyond it the mask is cut, and what no patch covers
        is 0.

    Returns:
      float32 of that size, in [0, 1].
    """
    import cv2
    from PIL import Image

    covered = (weights.shape[0] * stride, weights.shape[1] * stride)
    small = Image.fromarray(np.asarray(weights, np.float32) / max(float(np.max(weights)), 1e-30))
    mask = np.asarray(small.resize(covered[::-1], Image.Resampling.LANCZOS))
    mask = cv2.GaussianBlur(mask, (0, 0), stride)
    height, width = (min(pair) for pair in zip(covered, image_size, strict=True))
    mask = mask[:height, :width]
    low, high = float(mask.min()), float(mask.max())
    result = np.zeros(image_size, np.float32)
    # A mask without contrast hides nothing.
    result[:height, :width] = (mask - low) / (high - low) if high - low > 1e-5 else 1.0
    return result
