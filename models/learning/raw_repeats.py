"""The paper's second data path: coefficients from raw camera repeats of a field of view, instead of simulated readings.

A repeat r is a noisy frame; its Hadamard transform Z_r stands for one measured pair of every coefficient. What is
approximate, and known to be (Wang et al. 2021, "Data"): the noise of one pixel enters all coefficients of its repeat.
Coefficients that share a repeat therefore have correlated noise, Cov(Z_ri, Z_rj) = Σ_p σ_p² over pixels, signed by
pattern i xor j, where those of a bucket detector are independent. The variance is that of the camera, Σ_p σ_p², the
same for every i because |H| = 1; a bucket detector's would be aT + 2b. So the gain is the camera's, and its
signal-independent variance counts N times instead of twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.estimators import Estimate
from models.hadamard import SideError, transform


@dataclass(frozen=True)
class RepeatedCoefficients:
    """The transforms of R raw repeats of one image, from which any number of schemes can be measured.

    values: Z float64 [R, N]; variance: of one repeat's coefficient, Σ_p σ_p², pooled over all i > 0.
    """

    values: NDArray[np.float64]
    variance: float


def transform_repeats(repeats: NDArray[np.generic]) -> RepeatedCoefficients:
    """Transforms of raw repeats [R, n, n], R at least 2. Raises RawRepeatsError, SideError."""
    frames = np.asarray(repeats, dtype=np.float64)
    if frames.ndim != 3 or len(frames) < 2:
        raise RawRepeatsError(
            f"found repeats {list(frames.shape)}; expected [R, n, n] with R at least 2, whose scatter is the noise"
        )
    if frames.shape[1] != frames.shape[2]:
        raise SideError(f"found repeats of {frames.shape[1]} × {frames.shape[2]} pixels; expected square ones")
    if not np.isfinite(frames).all():
        raise RawRepeatsError("found NaN or infinite values in the repeats; expected finite ones")
    values = transform(frames.reshape(len(frames), -1))
    # Coefficient 0 shows how the lamp flickers between the repeats, which no pair would see: it is left out.
    return RepeatedCoefficients(values, float(values[:, 1:].var(axis=0, ddof=1).mean()))


def measured_from_repeats(
    repeats: NDArray[np.generic] | RepeatedCoefficients, counts: NDArray[np.integer], rng: np.random.Generator
) -> Estimate:
    """Every coefficient as the average over M_i randomly chosen raw repeats.

    repeats: raw frames [R, n, n] or their transforms; counts: M [N]. Up to R repeats are chosen without replacement,
    as the paper does; more than R with replacement. The variance is σ²/M_i without, and σ²·(1/M_i + (1 - 1/M_i)/R)
    with, σ² from the repeats' scatter: R frames hold no more light than R frames, however often they are drawn. Both
    are variances about the light itself; a ground truth that is the average of the same repeats is nearer.

    Entry 0 is the total light: the mean of Z_r0 over all repeats chosen for any coefficient; NaN where none was.
    Untaken coefficients are NaN, their variance inf. Raises RawRepeatsError, SideError.
    """
    source = repeats if isinstance(repeats, RepeatedCoefficients) else transform_repeats(repeats)
    n_repeats, n_coefficients = source.values.shape
    count = np.asarray(counts)
    if count.shape != (n_coefficients,) or (count < 0).any():
        raise RawRepeatsError(
            f"found counts {list(count.shape)}, the least {count.min(initial=0)}; "
            f"expected one of 0 or more for each of {n_coefficients} coefficients"
        )
    chosen = _choose(count, n_repeats, rng)
    estimate = np.full(n_coefficients, np.nan)
    taken = count > 0
    np.divide(np.einsum("ri,ri->i", chosen, source.values), count, out=estimate, where=taken)
    variance = np.full(n_coefficients, np.inf)
    variance[taken] = source.variance * _relative_variance(count[taken], n_repeats)
    pairs = int(count.sum(dtype=np.int64))
    total = float(chosen.sum(axis=1) @ source.values[:, 0] / pairs) if pairs else float("nan")
    estimate[0] = total
    if pairs:
        # Whatever was chosen for one coefficient can be chosen again for another.
        variance[0] = source.variance * (1 / pairs + (1 - 1 / pairs) / n_repeats)
    return Estimate(estimate, variance, total)


class RawRepeatsError(ValueError):
    """Repeats or counts from which nothing can be measured."""


def _choose(count: NDArray[np.integer], n_repeats: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """How often each repeat is chosen for each coefficient, float64 [R, N]; column i sums to M_i."""
    chosen = np.zeros((n_repeats, len(count)))
    few = np.flatnonzero((count > 0) & (count <= n_repeats))
    # The M_i repeats of the lowest random numbers are a random choice without replacement.
    rank = rng.random((n_repeats, len(few))).argsort(axis=0).argsort(axis=0)
    chosen[:, few] = rank < count[few]
    many = np.flatnonzero(count > n_repeats)
    chosen[:, many] = rng.multinomial(count[many], np.full(n_repeats, 1 / n_repeats)).T
    return chosen


def _relative_variance(count: NDArray[np.integer], n_repeats: int) -> NDArray[np.float64]:
    m = count.astype(np.float64)
    return np.asarray(np.where(m <= n_repeats, 1 / m, 1 / m + (1 - 1 / m) / n_repeats))
