"""TV-W, the training-free method of the paper: least squares, total variation and the L1 norm of wavelet coefficients.

Wang et al. (MICCAI 2021) take it from HQSNet (github.com/alanqrwang/HQSNet: db4, 3 levels, all bands). Theirs descends
along subgradients; here the same kind of cost is brought to its minimum by ADMM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.estimators import Estimate
from models.grid_search import best_on_grid
from models.hadamard import inverse_image, transform
from models.metrics import psnr
from models.weighted_tv import NothingMeasuredError

if TYPE_CHECKING:
    import torch

LEVELS = 3


@dataclass(frozen=True)
class TvWaveletWeights:
    """The weights of highest mean PSNR, and that PSNR in dB of every pair of weights, float64 [TV, wavelet]."""

    tv_weight: float
    wavelet_weight: float
    mean_psnr: NDArray[np.float64]


def tv_wavelet_image(
    estimate: Estimate, tv_weight: float, wavelet_weight: float, *, wavelet: str = "db4", iterations: int = 60
) -> NDArray[np.float64]:
    """The image x, float64 [n, n], that minimizes Σ(z_i - (Hx)_i)²/(2N) + σ·(tv_weight·TV(x) + wavelet_weight·‖Wx‖₁).

    The first sum runs over the taken coefficients and weighs them alike: made for binary masks. W: orthonormal,
    periodic wavelets of LEVELS levels, or as many as the side has room for. σ = sqrt(Σv)/N: the noise per pixel of the
    plain inverse, in the light's units, which makes the weights pure numbers. Negative values are left to the caller.

    ADMM with one copy of the image for each of the two penalties: x itself is found exactly, coefficient by
    coefficient, in the Hadamard domain (Boyd et al. 2011, §7.2). Raises NothingMeasuredError, SideError.
    """
    import torch

    from models.tv_proximal import TotalVariationProximal, float_type_for

    taken = np.isfinite(estimate.variance) & np.isfinite(estimate.coefficients)
    if not taken.any():
        raise NothingMeasuredError("no coefficient was measured; expected one pair at least")
    noise = float(np.sqrt(estimate.variance[taken].sum()) / len(taken))
    measured: NDArray[np.float64] = np.where(taken, estimate.coefficients, 0.0)
    plain = inverse_image(measured)
    unit = noise or float(np.abs(plain).max()) or 1.0
    tv_weight, wavelet_weight = (weight * noise / unit for weight in (tv_weight, wavelet_weight))
    dtype = float_type_for(plain / unit)
    z, kept = (torch.from_numpy(each).to(dtype) for each in (measured / unit, taken.astype(np.float64)))
    image = torch.from_numpy(plain / unit).to(dtype)
    total_variation = TotalVariationProximal(image, nonnegative=False)
    # Row 0 of each belongs to total variation, row 1 to the wavelets.
    copies, duals = (image.new_empty((2, *image.shape)) for _ in range(2))
    copies[:], duals[:] = image, 0.0
    for _ in range(iterations):
        wanted = transform((copies - duals).sum(0).view(-1))
        solved = wanted.mul_(_PENALTY).addcmul_(kept, z).div_(kept + 2 * _PENALTY)
        image = transform(solved).div_(len(z)).view(image.shape)
        torch.add(image, duals[0], out=duals[0])
        total_variation(duals[0], tv_weight / _PENALTY, _INNER_ITERATIONS, out=copies[0])
        duals[1] += image
        copies[1] = _soft_threshold(duals[1], wavelet_weight / _PENALTY, wavelet)
        duals -= copies
    return np.asarray(image.numpy(), dtype=np.float64) * unit


def grid_search_tv_wavelet(
    validation: Sequence[tuple[NDArray[np.float64], Estimate]],
    tv_weights: Sequence[float],
    wavelet_weights: Sequence[float],
    *,
    data_range: float,
    iterations: int = 60,
) -> TvWaveletWeights:
    """The weights of highest mean PSNR over validation pairs (true image float64 [n, n], its estimate).

    data_range: of the PSNR, in the images' units. Raises GridError where the grid is empty, NoValidationError where
    there are no pairs.
    """
    if not validation:
        raise NoValidationError("found no validation images; expected one at least to choose weights by")

    def mean_psnr(weights: tuple[float, ...]) -> float:
        images = (tv_wavelet_image(estimate, *weights, iterations=iterations) for _, estimate in validation)
        scores = [psnr(truth, image, data_range) for (truth, _), image in zip(validation, images, strict=True)]
        return float(np.mean(scores))

    (best_tv, best_wavelet), scores = best_on_grid(mean_psnr, tv_weights, wavelet_weights)
    return TvWaveletWeights(best_tv, best_wavelet, scores)


class NoValidationError(ValueError):
    """No images to choose weights by."""


def _soft_threshold(image: torch.Tensor, threshold: float, wavelet: str) -> torch.Tensor:
    """argmin_x ½Σ(x - image)² + threshold·‖Wx‖₁: every wavelet coefficient moved towards 0 by ``threshold``."""
    import pywt
    import torch

    levels = max(1, min(LEVELS, pywt.dwtn_max_level(image.shape, wavelet)))
    bands, places = pywt.coeffs_to_array(pywt.wavedec2(image.numpy(), wavelet, "periodization", levels))
    shrunk = torch.nn.functional.softshrink(torch.from_numpy(bands), threshold).numpy()
    coefficients: Any = pywt.array_to_coeffs(shrunk, places, "wavedec2")
    return torch.from_numpy(pywt.waverec2(coefficients, wavelet, "periodization"))


# Of the ADMM, as a share of the data term's curvature; on open crops the cost falls fastest here.
_PENALTY = 0.15
_INNER_ITERATIONS = 3
