"""How alike two pictures are: PSNR and SSIM on named pixels of 8-bit RGB."""

from __future__ import annotations

import numpy as np
from skimage.metrics import structural_similarity


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB of one frame, over the three channels of the masked pixels.

    A clip's PSNR is the mean of its frames' values (not the PSNR of the mean error).

    Args:
      image, truth: uint8 [H, W, 3].
      mask: bool [H, W]; None is the whole frame.

    Returns:
      dB; inf for equal pixels, nan for an empty mask.
    """
    error = (image.astype(np.float32) - truth.astype(np.float32)) ** 2
    values = error if mask is None else error[mask]
    if values.size == 0:
        return float("nan")
    mse = float(values.mean(dtype=np.float64))
    return float("inf") if mse == 0 else 10.0 * np.log10(255.0**2 / mse)


def difference(image: np.ndarray, truth: np.ndarray, gain: int = 4) -> np.ndarray:
    """uint8 [H, W, 3]: the absolute difference of two pictures, `gain` times as bright, black where equal."""
    return np.clip(np.abs(image.astype(np.int16) - truth) * gain, 0, 255).astype(np.uint8)


def ssim_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Structural similarity per pixel (Wang et al. 2004): scikit-image, Gaussian window (sigma 1.5), data range 255, channel mean.

    A region's SSIM is the mean of this map over its pixels; the map itself always sees the whole frame.

    Args:
      image, truth: uint8 [H, W, 3], at least 11 pixels high and wide.

    Returns:
      [H, W] float, 1 where equal.
    """
    _, similarity = structural_similarity(
        image, truth, data_range=255, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return similarity.mean(-1)
