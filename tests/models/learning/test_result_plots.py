"""Pictures of results: every pixel is shown as it is, scales are shared and stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.linalg import hadamard
from skimage.io import imread

from models import masks
from models.learning.result_plots import Example, PlotInputError, draw_masks, draw_psnr_boxes, draw_reconstructions
from models.learning.scores import Condition, SchemeLabel, Score, Scores

RNG = np.random.default_rng(0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved, still to be looked into."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def shown(figure: Figure) -> list[NDArray[np.float64]]:
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


def panel_titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def scores(alphas: tuple[float, ...] = (0.25, 0.125)) -> Scores:
    return Scores(
        tuple(
            Score(k, Condition(SchemeLabel(mask, alpha, 50, "bernoulli"), method), 1000, 30 + RNG.normal(), 0.9, 20.0)
            for alpha in alphas
            for method in ("TV-W", "network")
            for mask in ("LS", "U")
            for k in range(5)
        )
    )


def test_masks_stand_in_sequency_order_with_low_sequency_at_the_top_left(drawn: list[Figure], tmp_path: Path) -> None:
    """A mask whose values are the sequencies, counted as sign changes of dense rows, must become a ramp."""
    n = 16
    changes = (np.diff(hadamard(n), axis=1) != 0).sum(axis=1)
    ramp = (changes[:, None] * n + changes[None, :]).ravel() / n**2
    draw_masks(tmp_path / "masks.png", {0.5: {"ramp": ramp}})
    np.testing.assert_allclose(shown(drawn[0])[0], np.arange(n * n).reshape(n, n) / n**2)


def test_masks_have_one_row_per_alpha_and_one_scale(drawn: list[Figure], tmp_path: Path) -> None:
    table = {a: {"LS": masks.low_sequency(16, a), "U": masks.uniform(16, a)} for a in (0.25, 0.125)}
    draw_masks(tmp_path / "masks.png", table)
    panels = [axis for axis in drawn[0].axes if axis.images]
    assert len(panels) == 4
    assert {axis.images[0].get_clim() for axis in panels} == {(0, 1)}
    assert panel_titles(drawn[0]) == ["LS", "U"]
    assert {axis.get_ylabel() for axis in drawn[0].axes} >= {
        "α = 0.25\nvertical sequency",
        "α = 0.125\nvertical sequency",
        "probability P",
    }


def test_a_mask_that_one_alpha_lacks_leaves_its_place_empty(drawn: list[Figure], tmp_path: Path) -> None:
    table = {0.25: {"U": masks.uniform(16, 0.25)}, 0.125: {"P*": masks.low_sequency(16, 0.125)}}
    draw_masks(tmp_path / "masks.png", table)
    assert panel_titles(drawn[0]) == ["U", "P*"]
    left = [axis.get_position().x0 for axis in drawn[0].axes if axis.images]
    assert left[0] < left[1]
    labels = [axis.get_ylabel().split("\n")[0] for axis in drawn[0].axes if axis.images]
    assert labels == ["α = 0.25", "α = 0.125"]


@pytest.mark.parametrize("n", [16, 64, 128])
def test_every_coefficient_of_a_mask_is_a_square_of_whole_screen_pixels(tmp_path: Path, n: int) -> None:
    """The file holds a checkerboard of equal squares, not resampled ones: runs along a row are all k pixels long."""
    rank = (np.diff(hadamard(n), axis=1) != 0).sum(axis=1)
    checkered = ((rank[:, None] + rank[None, :]) % 2).ravel().astype(np.float64)
    draw_masks(tmp_path / "masks.png", {0.5: {"checkered": checkered}})
    picture = imread(tmp_path / "masks.png")[..., :3].astype(int)
    yellow = (np.abs(picture - [253, 231, 37]).sum(axis=-1) < 12).astype(int)
    row = yellow[int(np.argmax(yellow[:, : picture.shape[1] * 3 // 4].sum(axis=1)))]
    edges = np.flatnonzero(np.diff(row[: picture.shape[1] * 3 // 4]))
    # The frame covers the outer coefficients in part.
    lengths = np.diff(edges)[1 : n - 3]
    assert len(lengths) > n // 2
    assert set(lengths.tolist()) == {-(-512 // n)}


def test_boxes_stand_for_every_mask_and_method(drawn: list[Figure], tmp_path: Path) -> None:
    draw_psnr_boxes(tmp_path / "boxes.png", scores(), "crops_test")
    figure = drawn[0]
    assert panel_titles(figure) == ["α = 0.25, S = 50, Bernoulli draws", "α = 0.125, S = 50, Bernoulli draws"]
    for axis in figure.axes:
        assert [label.get_text() for label in axis.get_xticklabels()] == ["LS", "U", "LS", "U"]
        assert len(axis.patches) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["TV-W", "network"]


def test_the_line_of_a_box_is_the_median(drawn: list[Figure], tmp_path: Path) -> None:
    table = scores(alphas=(0.25,))
    draw_psnr_boxes(tmp_path / "boxes.png", table)
    (axis,) = drawn[0].axes
    lines = {float(value) for line in axis.lines for value in np.atleast_1d(line.get_ydata())}
    for condition in table.conditions:
        values = table.values(condition, "psnr")
        assert any(abs(line - np.median(values)) < 1e-9 for line in lines)
        assert any(abs(line - values.mean()) < 1e-9 for line in lines)


def test_a_perfect_image_does_not_stop_the_box_plot(tmp_path: Path) -> None:
    condition = Condition(SchemeLabel("U", 1.0, 50, "bernoulli"), "inverse")
    table = Scores(tuple(Score(k, condition, 10, value, 1.0, value) for k, value in enumerate((40.0, np.inf, 41.0))))
    draw_psnr_boxes(tmp_path / "boxes.png", table)
    assert (tmp_path / "boxes.png").stat().st_size > 1000


def example() -> Example:
    truth = RNG.uniform(0, 40, (32, 32))
    return Example("nuclei", truth, {"U, CS-TV": truth + RNG.normal(0, 2, truth.shape), "P*, network": truth + 1.0})


def test_reconstructions_share_the_grey_scale_and_their_errors_stand_beneath(
    drawn: list[Figure], tmp_path: Path
) -> None:
    nuclei = example()
    draw_reconstructions(tmp_path / "images.png", [nuclei], data_range=40.0, error_limit=5.0)
    panels = [axis for axis in drawn[0].axes if axis.images]
    greys = [axis for axis in panels if axis.images[0].get_cmap().name == "gray"]
    errors = [axis for axis in panels if axis.images[0].get_cmap().name == "RdBu_r"]
    assert {axis.images[0].get_clim() for axis in greys} == {(0, nuclei.truth.max())}
    assert {axis.images[0].get_clim() for axis in errors} == {(-5, 5)}
    for above, below, image in zip(greys[1:], errors, nuclei.images.values(), strict=True):
        np.testing.assert_allclose(np.asarray(below.images[0].get_array()), image - nuclei.truth)
        assert above.get_position().x0 == below.get_position().x0
        assert above.get_position().y0 > below.get_position().y1
    assert "image − truth, scale ±5" in {axis.get_ylabel() for axis in drawn[0].axes}


def test_titles_state_the_psnr(drawn: list[Figure], tmp_path: Path) -> None:
    draw_reconstructions(tmp_path / "images.png", [example()], data_range=40.0)
    # Off by one everywhere: 20·log10(40/1) dB.
    assert "P*, network\n32.04 dB" in panel_titles(drawn[0])


def test_the_error_scale_is_rounded_up_from_the_errors(drawn: list[Figure], tmp_path: Path) -> None:
    truth = np.arange(256.0).reshape(16, 16)
    draw_reconstructions(tmp_path / "images.png", [Example("a", truth, {"b": truth - 0.033})], data_range=255.0)
    assert "image − truth, scale ±0.04" in {axis.get_ylabel() for axis in drawn[0].axes}


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_the_suffix_chooses_the_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"masks.{suffix}"
    draw_masks(path, {0.25: {"U": masks.uniform(16, 0.25)}})
    assert (b"%PDF" if suffix == "pdf" else b"<svg") in path.read_bytes()[:2000]


def test_data_that_make_no_picture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.png"
    truth = np.ones((16, 16))
    with pytest.raises(PlotInputError, match=r"masks of \[256, 1024\]"):
        draw_masks(path, {0.25: {"a": masks.uniform(16, 0.25), "b": masks.uniform(32, 0.25)}})
    with pytest.raises(PlotInputError, match=r"masks of \[\]"):
        draw_masks(path, {})
    with pytest.raises(PlotInputError, match=r"α = 0\.125 has none"):
        draw_masks(path, {0.25: {"a": masks.uniform(16, 0.25)}, 0.125: {}})
    with pytest.raises(PlotInputError, match="no scores"):
        draw_psnr_boxes(path, Scores(()))
    with pytest.raises(PlotInputError, match="0 examples"):
        draw_reconstructions(path, [], 1.0)
    with pytest.raises(PlotInputError, match=r"\(16, 16\), \(32, 32\)"):
        draw_reconstructions(path, [Example("a", truth, {"b": np.ones((32, 32))})], 1.0)
    with pytest.raises(PlotInputError, match="each with a reconstruction"):
        draw_reconstructions(path, [Example("a", truth, {})], 1.0)
    with pytest.raises(PlotInputError, match="error limit of 0"):
        draw_reconstructions(path, [Example("a", truth, {"b": truth})], 1.0, error_limit=0.0)
    assert not path.exists()
