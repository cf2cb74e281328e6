"""The course of the light within a block: a parabola through its pair sums, and what the fit takes of their scatter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

# A parabola follows a block that loses a third of its light; fewer pairs than these get a straight line or a mean.
_PAIRS_PER_ORDER, _HIGHEST_ORDER = 4, 2


@dataclass(frozen=True)
class LightCourse:
    """A least-squares polynomial through sums float64 [K] over times in µs.

    loadings, orthonormal over the K times, are what each sum's noise is multiplied with on its way into the course.
    """

    middle_us: float
    half_span_us: float
    coefficients: NDArray[np.float64]
    inverse: NDArray[np.float64]

    @classmethod
    def of(cls, time_us: NDArray[np.float64], sums: NDArray[np.float64]) -> Self:
        """The course through K ≥ 1 sums."""
        order = min(len(sums) // _PAIRS_PER_ORDER, _HIGHEST_ORDER)
        middle, half_span = (time_us[-1] + time_us[0]) / 2, max((time_us[-1] - time_us[0]) / 2, 1.0)
        orthonormal, triangle = np.linalg.qr(np.vander((time_us - middle) / half_span, order + 1, increasing=True))
        inverse = np.linalg.inv(triangle)
        return cls(float(middle), float(half_span), inverse @ (orthonormal.T @ sums), inverse)

    def at(self, time_us: NDArray[np.float64]) -> NDArray[np.float64]:
        """The course at times of any shape."""
        return np.asarray(self._powers(time_us) @ self.coefficients)

    def slope(self, time_us: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its derivative, per µs."""
        order = np.arange(1, len(self.coefficients))
        return np.asarray(self._powers(time_us)[..., :-1] @ (order * self.coefficients[1:]) / self.half_span_us)

    def loadings(self, time_us: NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., order + 1]: two times' loadings multiply to the course's covariance there, per variance of a sum."""
        return np.asarray(self._powers(time_us) @ self.inverse)

    def _powers(self, time_us: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(
            ((time_us - self.middle_us) / self.half_span_us)[..., None] ** np.arange(len(self.coefficients))
        )
