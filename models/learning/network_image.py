"""The compact network's image of an estimate, with its uncertainty, in NumPy and in the light's own units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.estimators import Estimate
from models.learning.compact_network import CompactNetwork
from models.learning.learned_image import learned_image
from models.learning.unbiased_risk import unbiased_risk
from models.learning.uncertainty import UncertaintyCalibration
from models.priors import Prior


@dataclass(frozen=True)
class NetworkImage:
    """image: float64 [n, n], light per exposure, not negative; scale: calibrated Laplace scale of every pixel, [n, n]:
    image ± ln(10)·scale holds 90 %; predicted_mse: predicted mean squared error per pixel.
    """

    image: NDArray[np.float64]
    scale: NDArray[np.float64]
    predicted_mse: float


@dataclass(frozen=True)
class RawImage:
    """image: float64 [n, n], not negative; raw_scale: the network's own Laplace scale, [n, n]; measured_mse: unbiased
    estimate of its squared error per pixel over the coefficients that were measured (noisy, so it can be negative);
    unmeasured_mse: power per pixel that is expected of the others.
    """

    image: NDArray[np.float64]
    raw_scale: NDArray[np.float64]
    measured_mse: float
    unmeasured_mse: float


class NoLightError(ValueError):
    """An estimate whose total light is not above 0 and finite, of which no network can make an image."""


class OtherSideError(ValueError):
    """An estimate of another side than the prior's."""


def network_image(
    network: CompactNetwork, estimate: Estimate, prior: Prior, calibration: UncertaintyCalibration
) -> NetworkImage:
    """The image of an estimate. prior: at unit total light. Raises NoLightError, OtherSideError."""
    found = raw_image(network, estimate, prior)
    predicted = calibration.mean_squared_error(found.raw_scale, found.measured_mse, found.unmeasured_mse)
    return NetworkImage(found.image, calibration.scale(found.image, found.raw_scale, predicted), predicted)


def raw_image(network: CompactNetwork, estimate: Estimate, prior: Prior) -> RawImage:
    """As ``network_image``, before calibration. Raises NoLightError, OtherSideError."""
    if not 0 < estimate.total < np.inf:
        raise NoLightError(f"found a total light of {estimate.total:g}; expected more than 0: there is no image yet")
    if len(estimate.coefficients) != len(prior.variance):
        raise OtherSideError(
            f"found {len(estimate.coefficients)} coefficients and a prior of {len(prior.variance)}; expected as many: "
            "the network of another side cannot make this image"
        )
    taken = np.isfinite(estimate.variance) & np.isfinite(estimate.coefficients)
    # In units of the total light, so that float32 holds any of them.
    z = np.where(taken, estimate.coefficients, 0.0) / estimate.total
    z[0] = 1.0
    variance = np.where(taken, estimate.variance, np.inf)
    if taken[1:].any():
        # A pair ratio of ±1 says that it has no noise; it is not believed a thousand times more than the others.
        variance[1:] = np.maximum(variance[1:], _LEAST_VARIANCE * np.median(variance[1:][taken[1:]]))
    precision = np.zeros(len(z))
    np.divide(estimate.total**2, variance, out=precision, where=taken & (variance > 0))
    precision[taken & (variance == 0)] = _EXACT
    device = next(network.parameters()).device
    tensors = [
        torch.from_numpy(np.clip(values, -largest, largest).astype(np.float32)).to(device)
        for values, largest in ((z, _LARGEST), (precision, _EXACT), (prior.variance, _EXACT))
    ]
    z_row, precision_row, prior_row = tensors[0][None], tensors[1][None], tensors[2]

    def image_of(coefficients: torch.Tensor) -> torch.Tensor:
        return learned_image(network, coefficients, precision_row, prior_row).image.clamp(min=0)

    with torch.inference_mode():
        found = learned_image(network, z_row, precision_row, prior_row)
        image = found.image.clamp(min=0)
        # The same direction for every image: what is estimated does not change while nothing is measured.
        generator = torch.Generator(device).manual_seed(_DIRECTION)
        risk = unbiased_risk(image_of, image, z_row, precision_row, generator)
    light, scale = (value[0].double().cpu().numpy() * estimate.total for value in (image, found.scale))
    return RawImage(light, scale, float(risk) * estimate.total**2, float(found.unmeasured_mse) * estimate.total**2)


# Of the median.
_LEAST_VARIANCE = 1e-3
# A precision beyond which a coefficient counts as exact.
_EXACT = 1e20
# Of the total light; what is read in near darkness may be far above 1, and its square is to be held by float32.
_LARGEST = 1e12
_DIRECTION = 0
