"""How long the methods that need no training take for an image of 256 × 256, on two threads."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.row import Row
from benchmarks.timing import best_of
from models.draws import bernoulli_draw
from models.estimators import Estimate, difference, total_from_pairs
from models.masks import bernoulli_optimal
from models.noise import NoiseModel, draw_statistics
from models.priors import power_law_prior
from models.total_variation import denoise
from models.tv_wavelet import tv_wavelet_image
from models.weighted_tv import weighted_tv_image
from models.wiener import noise_std, wiener_image

SIDE, REPEATS, ALPHA, THREADS = 256, 50, 0.25, 2
WIENER_TV_WANTED_MS, CS_TV_WANTED_MS = 40.0, 800.0


def rows() -> list[Row]:
    """Milliseconds an image against the wanted ones, and total variation beside scikit-image's."""
    threads_before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return _rows()
    finally:
        torch.set_num_threads(threads_before)


def _rows() -> list[Row]:
    from skimage.restoration import denoise_tv_chambolle

    estimate = _estimate()
    prior = power_law_prior(SIDE, estimate.total)
    wiener = wiener_image(estimate.coefficients, estimate.variance, prior)
    noise = noise_std(prior, estimate.variance)
    scaled = (wiener / noise).astype(np.float32)

    def wiener_tv() -> NDArray[np.float64]:
        return denoise(wiener_image(estimate.coefficients, estimate.variance, prior), noise)

    wiener_tv_s, tv_s, chambolle_s = best_of(
        # Chambolle's 40 iterations leave about as much of the cost as the 20 here.
        [wiener_tv, lambda: denoise(wiener, noise), lambda: denoise_tv_chambolle(scaled, 0.6, eps=0, max_num_iter=40)],
        9,
        rounds=3,
    )
    cs_tv_s, tv_wavelet_s = best_of(
        [lambda: weighted_tv_image(estimate), lambda: tv_wavelet_image(estimate, 0.5, 0.5)], 3, rounds=3
    )
    of = f"of {SIDE}×{SIDE}, {THREADS} threads"
    return [
        _against_limit(f"Wiener image and total variation {of}", wiener_tv_s, WIENER_TV_WANTED_MS),
        Row(
            f"total variation {of}",
            f"{tv_s * 1e3:.3g} ms",
            f"scikit-image {chambolle_s * 1e3:.3g} ms",
            chambolle_s / tv_s,
            "comparison",
        ),
        _against_limit(f"weighted CS-TV, 60 iterations, {of}", cs_tv_s, CS_TV_WANTED_MS),
        Row(
            f"TV-W, 60 iterations, {of}",
            f"{tv_wavelet_s * 1e3:.3g} ms",
            f"weighted CS-TV {cs_tv_s * 1e3:.3g} ms",
            tv_wavelet_s / cs_tv_s,
            "comparison",
        ),
    ]


def _against_limit(what: str, here_s: float, wanted_ms: float) -> Row:
    return Row(what, f"{here_s * 1e3:.3g} ms", f"limit {wanted_ms:g} ms", here_s * 1e3 / wanted_ms, "at most 1")


def _estimate() -> Estimate:
    """Of rings and discs of light, from Bernoulli draws of an uneven mask."""
    down, across = np.mgrid[:SIDE, :SIDE] / SIDE
    rings = np.sin(60 * np.hypot(down - 0.4, across - 0.6)) ** 2
    sample = 0.05 + rings * (np.hypot(down - 0.5, across - 0.5) < 0.3)
    noise = NoiseModel(0.0139, 0.0)
    prior = power_law_prior(SIDE, float(sample.sum()))
    mask = bernoulli_optimal(prior.variance, ALPHA, REPEATS, noise.pair_variance(float(sample.sum())))
    counts = bernoulli_draw(mask, REPEATS, seed=1)
    statistics = draw_statistics(sample, counts, noise, np.random.default_rng(2))
    total = total_from_pairs(statistics)
    variance = np.full(SIDE**2, np.inf)
    variance[counts > 0] = noise.pair_variance(total) / counts[counts > 0]
    variance[0] = noise.pair_variance(total) / counts.sum()
    return Estimate(difference(statistics, total), variance, total)
