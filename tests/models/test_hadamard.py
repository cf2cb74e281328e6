"""The fast transform against SciPy's dense Hadamard matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from models.hadamard import SideError, check_side, inverse_image, transform, transform_image


@pytest.mark.parametrize("length", [2, 4, 8, 16, 32, 64, 128, 1024])
@pytest.mark.parametrize("batch", [(), (3,), (2, 5)])
def test_the_transform_is_the_dense_product_along_the_last_axis(length: int, batch: tuple[int, ...]) -> None:
    values = np.random.default_rng(length).normal(size=(*batch, length))
    np.testing.assert_allclose(transform(values), values @ hadamard(length), rtol=0, atol=1e-11 * length)


@pytest.mark.parametrize("side", [2, 4, 8, 16, 32, 64])
def test_an_image_is_transformed_along_rows_and_columns(side: int) -> None:
    image = np.random.default_rng(side).normal(size=(side, side))
    dense = hadamard(side)
    coefficients = transform_image(image)
    np.testing.assert_allclose(coefficients, dense @ image @ dense, rtol=0, atol=1e-11 * side**2)
    np.testing.assert_array_equal(coefficients.ravel(), transform(image.ravel()))


def test_coefficient_i_belongs_to_row_i_of_the_kronecker_product() -> None:
    image = np.random.default_rng(0).normal(size=(8, 8))
    rows = np.kron(hadamard(8), hadamard(8))
    for i in (0, 1, 8, 13, 63):
        assert transform(image.ravel())[i] == pytest.approx(rows[i] @ image.ravel(), abs=1e-12)


@given(st.integers(0, 12), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_twice_is_n_times_the_values_and_keeps_the_energy(exponent: int, seed: int) -> None:
    length = 2**exponent
    values = np.random.default_rng(seed).normal(size=length)
    coefficients = transform(values)
    np.testing.assert_allclose(transform(coefficients) / length, values, atol=1e-11)
    assert np.sum(coefficients**2) == pytest.approx(length * np.sum(values**2))


@pytest.mark.parametrize("batch", [(), (4,)])
def test_the_inverse_returns_the_images(batch: tuple[int, ...]) -> None:
    images = np.random.default_rng(1).uniform(size=(*batch, 32, 32))
    back = inverse_image(transform(images.reshape(*batch, 1024)))
    assert back.shape == images.shape
    np.testing.assert_allclose(back, images, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_types_are_kept(dtype: type[np.floating]) -> None:
    values = np.random.default_rng(2).normal(size=(2, 256)).astype(dtype)
    result = transform(values)
    assert result.dtype == dtype
    np.testing.assert_allclose(
        result, values.astype(np.float64) @ hadamard(256), atol=1e-3 if dtype == np.float32 else 0.0
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.bool_, np.float16, ">f8"])
def test_other_types_become_float64_without_overflow(dtype: str) -> None:
    values = np.full(1024, 1, dtype=dtype) * np.array(1, dtype=dtype)
    result = transform(values)
    assert result.dtype == np.float64
    assert result[0] == 1024
    assert not result[1:].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_go_in_and_come_out(dtype: torch.dtype) -> None:
    values = torch.randn(3, 64, dtype=dtype, generator=torch.Generator().manual_seed(0))
    result = transform(values)
    assert isinstance(result, torch.Tensor)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.numpy(), values.numpy().astype(np.float64) @ hadamard(64), atol=1e-4)


def test_integer_tensors_become_float64() -> None:
    assert transform(torch.ones(4, dtype=torch.int32)).tolist() == [4.0, 0.0, 0.0, 0.0]
    assert transform(torch.ones(4, dtype=torch.int32)).dtype == torch.float64


@pytest.mark.parametrize("length", [1, 2, 64])
def test_the_input_is_neither_changed_nor_shared(length: int) -> None:
    values = np.random.default_rng(3).normal(size=length)
    before = values.copy()
    result = transform(values)
    result[:] = 7
    np.testing.assert_array_equal(values, before)


def test_read_only_and_strided_arrays_are_taken() -> None:
    values = np.random.default_rng(4).normal(size=(64, 6))
    view = values.T[::2]
    view.flags.writeable = False
    np.testing.assert_allclose(transform(view), view @ hadamard(64), atol=1e-12)


def test_results_of_two_calls_do_not_share_memory() -> None:
    rng = np.random.default_rng(5)
    first = transform(rng.normal(size=64))
    kept = first.copy()
    transform(rng.normal(size=64))
    np.testing.assert_array_equal(first, kept)


def test_the_gradient_is_the_transform_of_the_gradient_above() -> None:
    """H is symmetric, so that d(g·Hx)/dx = Hg."""
    values = torch.randn(2, 128, dtype=torch.float64, requires_grad=True)
    above = torch.randn(2, 128, dtype=torch.float64)
    (transform(values) * above).sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    np.testing.assert_allclose(values.grad.numpy(), above.numpy() @ hadamard(128), atol=1e-11)


def test_a_first_call_in_inference_mode_does_not_spoil_later_gradients() -> None:
    with torch.inference_mode():
        transform(torch.ones(4096, dtype=torch.float32))
    values = torch.ones(4096, dtype=torch.float32, requires_grad=True)
    transform(values).sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert values.grad[0] == 4096


def test_an_empty_batch_gives_an_empty_batch() -> None:
    assert transform(np.empty((0, 16))).shape == (0, 16)


@pytest.mark.parametrize("length", [3, 6, 100])
def test_lengths_that_are_no_power_of_two_are_refused(length: int) -> None:
    with pytest.raises(SideError, match=f"{length}.*power of two"):
        transform(np.ones(length))


@pytest.mark.parametrize("side", [0, -4, 3, 12])
def test_sides_that_are_no_power_of_two_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        check_side(side)


@pytest.mark.parametrize("shape", [(4, 8), (3, 3), (16,)])
def test_images_that_are_not_square_with_such_a_side_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SideError):
        transform_image(np.ones(shape))


@pytest.mark.parametrize("n_coefficients", [8, 32, 36])
def test_coefficients_of_no_square_image_are_refused(n_coefficients: int) -> None:
    with pytest.raises(SideError):
        inverse_image(np.ones(n_coefficients))


@pytest.mark.parametrize("length", [1, 2, 64, 2048, 2**16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_result_can_be_written_into_a_buffer_again_and_again(length: int, dtype: torch.dtype) -> None:
    buffer = torch.full((3, length), torch.nan, dtype=dtype)
    for seed in range(3):
        values = torch.rand(3, length, dtype=dtype, generator=torch.Generator().manual_seed(seed))
        kept = values.clone()
        written = transform(values, out=buffer)
        assert written.data_ptr() == buffer.data_ptr()
        assert torch.equal(buffer, transform(values))
        assert torch.equal(values, kept)


def test_results_do_not_share_memory_with_one_another() -> None:
    first = transform(torch.ones(4096))
    kept = first.clone()
    transform(torch.zeros(4096))
    assert torch.equal(first, kept)
