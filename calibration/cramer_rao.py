"""The smallest covariance that any unbiased estimate of (a, b, q) can have, from the exposures that were taken.

Readings are independent and normal with mean o + m and variance v = b + a·m + q·m², m = μ_g·d(t) the light of picture g
under the drift d = 1 + Σ c_k·L_k(t). Every parameter θ of (a, b, q, o, μ_1 … μ_G, c_1 … c_K) is unknown, and the Fisher
information of n readings is

    I = Σ_j [ (∂M_j/∂θ)(∂M_j/∂θ)ᵀ/v_j + ½·(∂v_j/∂θ)(∂v_j/∂θ)ᵀ/v_j² ],    M = o + m,

with ∂M = (0, 0, 0, 1, d·e_g, μ_g·L) and ∂v = (m, 1, m², 0, g·d·e_g, g·μ_g·L), g = a + 2qm. A reading with the light
off has M = o, v = b. The bound is the block of I⁻¹ that belongs to (a, b, q) (Kay 1993, eq. 3.31). Without readings
with the light off the offset cannot be told from the light that does not depend on the mirrors, and is taken as known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def cramer_rao_bound(
    light: NDArray[np.float64],
    picture: NDArray[np.intp],
    design: NDArray[np.float64],
    *,
    gain: float,
    variance: float,
    source_noise: float,
    n_dark: int,
    drift: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Covariance float64 [3, 3] of (a, b, q): units², units⁴ and 1 on the diagonal.

    light: μ float64 [G]; picture: [n], which of them each exposure shows; design: float64 [n, K], columns of the drift
    (calibration.drift.drift_design); drift: d float64 [n], 1 by default; n_dark: readings with the light off. Raises
    UndeterminedError where the exposures do not determine the parameters.
    """
    n, n_pictures, n_columns = len(picture), len(light), design.shape[1]
    curve = np.ones(n) if drift is None else drift
    m = light[picture] * curve
    slope = gain + 2 * source_noise * m
    of_mean = np.zeros((n + n_dark, 4 + n_pictures + n_columns))
    of_variance = np.zeros_like(of_mean)
    rows = np.arange(n)
    of_mean[:, 3] = 1.0
    of_mean[rows, 4 + picture] = curve
    of_mean[:n, 4 + n_pictures :] = light[picture][:, None] * design
    of_variance[:n, 0], of_variance[:, 1], of_variance[:n, 2] = m, 1.0, m**2
    of_variance[:n, 4:] = slope[:, None] * of_mean[:n, 4:]
    v = np.full(n + n_dark, float(variance))
    v[:n] += gain * m + source_noise * m**2
    if n_dark == 0:
        of_mean, of_variance = np.delete(of_mean, 3, axis=1), np.delete(of_variance, 3, axis=1)
    information = of_mean.T @ (of_mean / v[:, None]) + 0.5 * of_variance.T @ (of_variance / (v**2)[:, None])
    scale = 1 / np.sqrt(np.maximum(np.diag(information), np.finfo(float).tiny))
    scaled = information * scale[:, None] * scale
    # A drift of darkness alone and the like: told by an eigenvalue, not by an inverse full of rounding errors.
    if np.linalg.eigvalsh(scaled)[0] < 1e-13:
        raise UndeterminedError(
            f"found {n} exposures of {n_pictures} pictures and {n_dark} readings without light, which do not determine "
            "a, b and q; expected three levels of light or more, each exposed several times"
        )
    bound: NDArray[np.float64] = (np.linalg.inv(scaled) * scale[:, None] * scale)[:3, :3]
    return bound


class UndeterminedError(ValueError):
    """Exposures that do not determine the parameters, however many there were."""
