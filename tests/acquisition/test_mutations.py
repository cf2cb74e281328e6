"""Errors a programmer could make between a pattern and the mirrors: none of them goes unnoticed.

Each mutation changes what is asked of the renderer, the bytes it gives, the region it renders into, or the schedule
that readings are filed by; never the bench, which decodes the bytes with its own code. Each is tried under every flip
and rotation, and the nets that catch it under all of them are named beside it.
"""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from acquisition.bank import Bank, Block
from acquisition.bank_loader import Render
from acquisition.config import AcquisitionConfig
from acquisition.dmd_region import dmd_region
from acquisition.integrity import AlignmentError, GuardsTooDimError
from acquisition.reconstruction import estimate_coefficients
from acquisition.schedule import Schedule
from acquisition.sensing_plan import plan_sensing
from devices.dmd_types import DMD_TYPES
from devices.errors import PictureShapeError
from models.hadamard import inverse_image
from models.pictures import PictureRenderer, Region
from models.sequency import sequency_order
from tests.acquisition.rehearsal import asymmetric_sample, rehearse, small_config

# What notices: the reconstructed image, the look at the border's bits, the guards (AlignmentError: they read another
# code; GuardsTooDimError: no light in them), the projector's driver.
Net = Literal["image", "border", "alignment", "too dim", "driver"]
Indices = NDArray[np.int64]
Signs = NDArray[np.int8]
Pictures = NDArray[np.uint8]

N: Final = 8
SAMPLE: Final = asymmetric_sample(N)
ORIENTATIONS: Final = tuple(itertools.product((False, True), (False, True), (0, 90, 180, 270)))


def a_config(orientation: tuple[bool, bool, int], dmd: str = "xga") -> AcquisitionConfig:
    """Every coefficient once or twice, two banks, several blocks, the region near the middle of the mirrors.

    Near, not at: turned over as a whole, the mirrors shall put the region over a part of itself. No multiple of 8
    anywhere: errors of bits shall not hide behind whole bytes.
    """
    flip_vertical, flip_horizontal, rotation_deg = orientation
    chip = DMD_TYPES[dmd]
    return small_config(
        sensing={"side": N, "alpha": 0.75, "repeats": 2},
        dmd_region={
            "top": chip.mirrors_height // 2 - 11,
            "left": chip.mirrors_width // 2 - 13,
            "mirrors_per_px": 3,
            "flip_vertical": flip_vertical,
            "flip_horizontal": flip_horizontal,
            "rotation_deg": rotation_deg,
        },
        blocks={
            "guard_interval": 8,
            "first_bank_pictures": 80,
            "longest_block_s": 0.01,
            "dark_exposures": 2,
            "most_repeats": 0,
        },
        devices={"projector": {"kind": "simulated", "dmd": dmd}},
    )


def nothing_asked(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return indices, signs


def nothing_shown(pictures: Pictures, region: Region) -> Pictures:
    return pictures


def nothing_placed(region: Region) -> Region:
    return region


def nothing_filed(schedule: Schedule) -> Schedule:
    return schedule


@dataclass(frozen=True)
class Mutation:
    """An error: of what is asked of the renderer, of the bytes shown, of the region, or of the schedule.

    caught_by: the nets that catch it under each of the orientations; dmd: the chip on which it is one.
    """

    name: str
    caught_by: set[Net]
    asked: Callable[[Indices, Signs], tuple[Indices, Signs]] = nothing_asked
    shown: Callable[[Pictures, Region], Pictures] = nothing_shown
    placed: Callable[[Region], Region] = nothing_placed
    filed: Callable[[Schedule], Schedule] = nothing_filed
    dmd: str = "xga"


class Watch:
    """Renders with an error in it, and looks at the packed bytes on their way to the projector."""

    def __init__(self, config: AcquisitionConfig, mutation: Mutation) -> None:
        self._region = dmd_region(config)
        self._mutation = mutation
        self._renderer = PictureRenderer(mutation.placed(self._region))
        outside = np.ones((self._region.mirrors_height, self._region.row_bytes * 8), dtype=bool)
        rows = slice(config.dmd_region.top, config.dmd_region.top + N * config.dmd_region.mirrors_per_px)
        columns = slice(config.dmd_region.left, config.dmd_region.left + N * config.dmd_region.mirrors_per_px)
        outside[rows, columns] = False
        self._outside = np.packbits(outside, axis=1)
        self.border_was_lit = False
        self.shown: list[Pictures] = []

    def render(self, indices: Indices, signs: Signs, out: Pictures) -> Pictures:
        pictures = self._mutation.shown(self._renderer.render(*self._mutation.asked(indices, signs), out), self._region)
        pictures = np.ascontiguousarray(pictures)
        if pictures.shape[1:] == self._outside.shape:
            self.border_was_lit |= bool((pictures & self._outside).any())
        self.shown.append(pictures)
        return pictures


def nets_that_catch(mutation: Mutation, orientation: tuple[bool, bool, int]) -> set[Net]:
    """Play the acquisition with the error in it; which of the nets it is caught in."""
    config = a_config(orientation, mutation.dmd)
    watch = Watch(config, mutation)
    caught: set[Net] = set()
    try:
        image = played_image(config, watch.render, mutation.filed(plan_sensing(config, SAMPLE).schedule))
    except PictureShapeError:
        caught.add("driver")
    except AlignmentError:
        caught.add("alignment")
    except GuardsTooDimError:
        caught.add("too dim")
    else:
        if not np.allclose(image, SAMPLE, rtol=1e-12, atol=0):
            caught.add("image")
    if watch.border_was_lit:
        caught.add("border")
    return caught


def played_image(config: AcquisitionConfig, render: Render, schedule: Schedule) -> NDArray[np.float64]:
    evidence, _ = rehearse(config, SAMPLE, render=render, schedule=schedule)
    return inverse_image(estimate_coefficients(evidence, config).coefficients)


# Packing and padding: bytes [K, mirrors_height, row_bytes] → bytes.


def bits_of(pictures: Pictures, region: Region) -> Pictures:
    return np.unpackbits(pictures, axis=2)[:, :, : region.mirrors_width]


TURNED_BYTE: Final = np.packbits(
    np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1), axis=1, bitorder="little"
)


def bit_0_leftmost(pictures: Pictures, region: Region) -> Pictures:
    return TURNED_BYTE[:, 0].take(pictures)


def words_of_another_byte_order(dtype: str) -> Callable[[Pictures, Region], Pictures]:
    return lambda pictures, region: pictures.view(dtype).byteswap().view(np.uint8)


def bits_inverted(pictures: Pictures, region: Region) -> Pictures:
    return ~pictures


def bottom_row_first(pictures: Pictures, region: Region) -> Pictures:
    return pictures[:, ::-1]


def rightmost_mirror_first(pictures: Pictures, region: Region) -> Pictures:
    return TURNED_BYTE[:, 0].take(pictures[:, :, ::-1])


def one_byte_a_mirror(pictures: Pictures, region: Region) -> Pictures:
    return bits_of(pictures, region) * np.uint8(255)


def one_byte_a_mirror_taken_for_packed(pictures: Pictures, region: Region) -> Pictures:
    """What a device set to packed bits finds at the address of a picture of one byte a mirror."""
    spread = one_byte_a_mirror(pictures, region).reshape(len(pictures), -1)
    return spread[:, : pictures[0].size].reshape(pictures.shape)


def columns_packed_instead_of_rows(pictures: Pictures, region: Region) -> Pictures:
    packed = np.packbits(bits_of(pictures, region), axis=1)
    return packed.transpose(0, 2, 1).reshape(len(pictures), -1)[:, : pictures[0].size].reshape(pictures.shape)


def rows_without_padding(pictures: Pictures, region: Region) -> Pictures:
    return pictures[:, :, : region.mirrors_width // 8]


def rows_this_far_apart(step: int) -> Callable[[Pictures, Region], Pictures]:
    """Rows laid into the picture's memory ``step`` bytes apart, whatever the device's distance is."""

    def laid(pictures: Pictures, region: Region) -> Pictures:
        n_pictures, height, row_bytes = pictures.shape
        memory = np.zeros((n_pictures, height * max(step, row_bytes)), dtype=np.uint8)
        used = min(region.mirrors_width // 8, step)
        for row in range(height):
            memory[:, row * step : row * step + used] = pictures[:, row, :used]
        return memory[:, : height * row_bytes].reshape(pictures.shape)

    return laid


def padding_before_the_row(pictures: Pictures, region: Region) -> Pictures:
    return np.roll(pictures, pictures.shape[2] - region.mirrors_width // 8, axis=2)


PACKING: Final = (
    Mutation("bit 0 leftmost", {"image", "border"}, shown=bit_0_leftmost),
    Mutation("bytes swapped in words of 16 bits", {"image", "border"}, shown=words_of_another_byte_order("u2")),
    Mutation("bytes swapped in words of 32 bits", {"too dim", "border"}, shown=words_of_another_byte_order("u4")),
    Mutation("bits inverted", {"alignment", "border"}, shown=bits_inverted),
    Mutation("bottom row first", {"image", "border"}, shown=bottom_row_first),
    Mutation("rightmost mirror first", {"image", "border"}, shown=rightmost_mirror_first),
    Mutation("one byte a mirror", {"driver"}, shown=one_byte_a_mirror),
    Mutation("one byte a mirror, taken for packed", {"too dim"}, shown=one_byte_a_mirror_taken_for_packed),
    Mutation("columns packed instead of rows", {"too dim", "border"}, shown=columns_packed_instead_of_rows),
    Mutation("rows without their padding", {"driver"}, shown=rows_without_padding, dmd="1080p"),
    Mutation("rows 240 bytes apart instead of 256", {"too dim", "border"}, shown=rows_this_far_apart(240), dmd="1080p"),
    Mutation("rows one byte too close", {"too dim", "border"}, shown=rows_this_far_apart(255), dmd="1080p"),
    Mutation("rows one byte too far apart", {"too dim", "border"}, shown=rows_this_far_apart(257), dmd="1080p"),
    Mutation("rows one byte too close, XGA", {"image", "border"}, shown=rows_this_far_apart(127)),
    Mutation("padding before the row", {"too dim", "border"}, shown=padding_before_the_row, dmd="1080p"),
)


# Order and sign: what is asked, (indices, signs) [K] of a bank, guards included → (indices, signs).


def in_pairs(indices: Indices) -> NDArray[np.bool_]:
    return np.not_equal(indices, 0)


def later(by: int) -> Callable[[Indices, Signs], tuple[Indices, Signs]]:
    return lambda indices, signs: (np.roll(indices, by), np.roll(signs, by))


def pairs_as(order: Callable[[int], Indices]) -> Callable[[Indices, Signs], tuple[Indices, Signs]]:
    """The pairs of a bank in another order; guards, and which of H+ and H- comes first, stay."""

    def asked(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
        where, changed = in_pairs(indices), indices.copy()
        pairs = indices[where][::2]
        changed[where] = np.repeat(pairs[order(len(pairs))], 2)
        return changed, signs

    return asked


def neighbours_exchanged(n_pairs: int) -> Indices:
    order = np.arange(n_pairs)
    order[: n_pairs // 2 * 2] ^= 1
    return order


def patterns_as(table: Indices) -> Callable[[Indices, Signs], tuple[Indices, Signs]]:
    """Pattern table[i] where pattern i is meant; guards stay."""
    return lambda indices, signs: (np.where(in_pairs(indices), table[indices], indices), signs)


def image_order(rows: Indices) -> Indices:
    return np.asarray(N * rows[:, None] + rows, dtype=np.int64).ravel()


BIT_REVERSED: Final = np.array([0, 4, 2, 6, 1, 5, 3, 7])
U_AND_V_EXCHANGED: Final = np.arange(N * N).reshape(N, N).T.ravel()


def changed_signs(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return indices, signs.astype(np.int8)


def first_picture_of_pairs(sign: int) -> Callable[[Indices, Signs], tuple[Indices, Signs]]:
    def asked(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
        changed = signs.copy()
        n_pairs = int(in_pairs(indices).sum()) // 2
        changed[in_pairs(indices)] = np.tile(np.array([sign, -sign], dtype=np.int8), n_pairs)
        return changed_signs(indices, changed)

    return asked


def sign_of_every_picture(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return changed_signs(indices, -signs)


def sign_of_pairs_only(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return changed_signs(indices, np.where(in_pairs(indices), -signs, signs))


def sign_of_guards_only(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return changed_signs(indices, np.where(in_pairs(indices), signs, -signs))


def sign_of_row_5(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return changed_signs(indices, np.where(indices // N == 5, -signs, signs))


def sign_of_column_2(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return changed_signs(indices, np.where(indices % N == 2, -signs, signs))


def sign_of_one_pattern(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return changed_signs(indices, np.where(indices == 37, -signs, signs))


def h_plus_only(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return changed_signs(indices, np.where(in_pairs(indices), 1, signs))


def h_minus_dark(indices: Indices, signs: Signs) -> tuple[Indices, Signs]:
    return np.where(signs < 0, 0, indices), signs


# Order, as far as the schedule says it: what is displayed and what readings are filed under part ways.


@dataclass(frozen=True, kw_only=True)
class BankThatShows(Bank):
    """A bank that is filed by its own fields and displayed as another one."""

    other: Bank

    @cached_property
    def pictures(self) -> tuple[Indices, Signs]:
        return self.other.pictures


@dataclass(frozen=True, kw_only=True)
class DisplacedBlock(Block):
    """A block whose display begins somewhere else in the bank."""

    displacement: int

    @property
    def first_picture(self) -> int:
        return super().first_picture + self.displacement


def filed_by(change: Callable[[Bank], dict[str, Any]]) -> Callable[[Schedule], Schedule]:
    """Readings filed by banks with changed fields, while the banks as planned are displayed."""

    def filed(schedule: Schedule) -> Schedule:
        banks = tuple(BankThatShows(**{**fields_of(bank), **change(bank), "other": bank}) for bank in schedule.banks)
        blocks = tuple(replace(block, bank=banks[block.bank.number]) for block in schedule.blocks)
        return replace(schedule, banks=banks, blocks=blocks)

    return filed


def fields_of(bank: Bank) -> dict[str, object]:
    return {name: getattr(bank, name) for name in Bank.__dataclass_fields__}


def second_passes_displaced(displacement: Callable[[Block], int]) -> Callable[[Schedule], Schedule]:
    def filed(schedule: Schedule) -> Schedule:
        blocks = tuple(
            DisplacedBlock(
                block.number,
                block.bank,
                block.pass_number,
                block.first_section,
                block.end_section,
                block.rounds,
                displacement=displacement(block) if block.pass_number == 2 else 0,
            )
            for block in schedule.blocks
        )
        return replace(schedule, blocks=blocks)

    return filed


def one_section(block: Block) -> int:
    return block.bank.guard_picture(block.first_section + 1) - block.first_picture


ORDER: Final = (
    Mutation("pictures one too late", {"alignment"}, asked=later(1)),
    Mutation("pictures one too early", {"alignment"}, asked=later(-1)),
    Mutation("pictures two too late", {"alignment"}, asked=later(2)),
    Mutation("neighbouring pairs exchanged", {"image"}, asked=pairs_as(neighbours_exchanged)),
    Mutation("pairs one too late, guards in place", {"image"}, asked=pairs_as(lambda n: np.roll(np.arange(n), 1))),
    Mutation("pairs in reverse order", {"image"}, asked=pairs_as(lambda n: np.arange(n)[::-1])),
    Mutation(
        "pairs in the order of their numbers",
        {"image"},
        asked=lambda i, s: pairs_as(lambda n: np.argsort(i[in_pairs(i)][::2]))(i, s),
    ),
    Mutation("sequency order for natural order", {"image"}, asked=patterns_as(image_order(sequency_order(N)))),
    Mutation("bit-reversed order for natural order", {"image"}, asked=patterns_as(image_order(BIT_REVERSED))),
    Mutation("u and v exchanged", {"image"}, asked=patterns_as(U_AND_V_EXCHANGED)),
    Mutation("patterns counted from 1", {"image"}, asked=patterns_as(np.roll(np.arange(N * N), -1))),
    Mutation("H+ always displayed first", {"image"}, asked=first_picture_of_pairs(1)),
    Mutation("H- always displayed first", {"image"}, asked=first_picture_of_pairs(-1)),
    Mutation(
        "plus_first ignored in filing",
        {"image"},
        filed=filed_by(lambda bank: {"plus_first": np.ones_like(bank.plus_first)}),
    ),
    Mutation(
        "plus_first of the next pair in filing",
        {"image"},
        filed=filed_by(lambda bank: {"plus_first": np.roll(bank.plus_first, -1)}),
    ),
    Mutation(
        "coefficients of the next pair in filing",
        {"image"},
        filed=filed_by(lambda bank: {"coefficients": np.roll(bank.coefficients, -1)}),
    ),
    Mutation("second passes one picture too late", {"alignment"}, filed=second_passes_displaced(lambda block: 1)),
    Mutation("second passes one pair too late", {"alignment"}, filed=second_passes_displaced(lambda block: 2)),
    Mutation("second passes one section too late", {"alignment"}, filed=second_passes_displaced(one_section)),
)


# Sign, flip, rotation and region: bytes again, and the region the renderer is given.


def complement_of_all_mirrors(pictures: Pictures, region: Region) -> Pictures:
    """H- as the complement of H+ on all mirrors. The image's first pixel is bright in every H+ and dark in every H-."""
    first_pixel = np.zeros((N, N), dtype=bool)
    first_pixel[-1 if region.flip_vertical else 0, -1 if region.flip_horizontal else 0] = True
    row, column = np.argwhere(np.rot90(first_pixel, region.rotation_deg // 90))[0] * region.mirrors_per_px
    is_minus = bits_of(pictures, region)[:, region.top + row, region.left + column] == 0
    return np.where(is_minus[:, None, None], pictures | border(region), pictures)


def border_lit(pictures: Pictures, region: Region) -> Pictures:
    return pictures | border(region)


def border(region: Region) -> Pictures:
    bits = np.ones((region.mirrors_height, region.row_bytes * 8), dtype=np.uint8)
    extent = N * region.mirrors_per_px
    bits[region.top : region.top + extent, region.left : region.left + extent] = 0
    return np.packbits(bits, axis=1)


def last_row_twice(pictures: Pictures, region: Region) -> Pictures:
    changed = pictures.copy()
    end = region.top + N * region.mirrors_per_px
    changed[:, end] = changed[:, end - 1]
    return changed


def last_row_dark(pictures: Pictures, region: Region) -> Pictures:
    changed = pictures.copy()
    changed[:, region.top + N * region.mirrors_per_px - 1] = 0
    return changed


def last_column_dark(pictures: Pictures, region: Region) -> Pictures:
    bits = np.unpackbits(pictures, axis=2)
    bits[:, :, region.left + N * region.mirrors_per_px - 1] = 0
    return np.packbits(bits, axis=2)


def rows_repeated_as_a_whole(pictures: Pictures, region: Region) -> Pictures:
    """np.tile for np.repeat: the pixel rows one after the other, and then all of them again."""
    m = region.mirrors_per_px
    changed = pictures.copy()
    changed[:, region.top : region.top + N * m] = np.tile(pictures[:, region.top : region.top + N * m : m], (1, m, 1))
    return changed


def turned_by(degrees: int) -> Callable[[Region], Region]:
    return lambda region: replace(region, rotation_deg=(region.rotation_deg + degrees) % 360)


def moved_by(down: int, right: int) -> Callable[[Region], Region]:
    return lambda region: replace(region, top=region.top + down, left=region.left + right)


def magnified_by(more: int) -> Callable[[Region], Region]:
    return lambda region: replace(region, mirrors_per_px=region.mirrors_per_px + more)


def flipped_again(*, vertical: bool = False, horizontal: bool = False) -> Callable[[Region], Region]:
    return lambda region: replace(
        region,
        flip_vertical=region.flip_vertical ^ vertical,
        flip_horizontal=region.flip_horizontal ^ horizontal,
    )


SIGN: Final = (
    Mutation("H+ and H- exchanged", {"alignment"}, asked=sign_of_every_picture),
    Mutation("H+ and H- exchanged in pairs only", {"image"}, asked=sign_of_pairs_only),
    Mutation("H+ and H- exchanged in guards only", {"alignment"}, asked=sign_of_guards_only),
    Mutation("sign of row u = 5", {"image"}, asked=sign_of_row_5),
    Mutation("sign of column v = 2", {"image"}, asked=sign_of_column_2),
    Mutation("sign of one pattern", {"image"}, asked=sign_of_one_pattern),
    Mutation("H+ shown for H-", {"image"}, asked=h_plus_only),
    Mutation("H- shown dark", {"image"}, asked=h_minus_dark),
)
ORIENTATION: Final = (
    Mutation("one vertical flip more", {"image"}, placed=flipped_again(vertical=True)),
    Mutation("one horizontal flip more", {"image"}, placed=flipped_again(horizontal=True)),
    Mutation("a quarter turn more", {"image"}, placed=turned_by(90)),
    Mutation("a quarter turn less", {"image"}, placed=turned_by(270)),
    Mutation("a half turn more", {"image"}, placed=turned_by(180)),
)
REGION: Final = (
    Mutation("one mirror too low", {"image", "border"}, placed=moved_by(1, 0)),
    Mutation("one mirror too high", {"image", "border"}, placed=moved_by(-1, 0)),
    Mutation("one mirror too far right", {"image", "border"}, placed=moved_by(0, 1)),
    Mutation("one mirror too far left", {"image", "border"}, placed=moved_by(0, -1)),
    Mutation("top and left exchanged", {"too dim", "border"}, placed=lambda r: replace(r, top=r.left, left=r.top)),
    Mutation("one mirror a pixel too many", {"image", "border"}, placed=magnified_by(1)),
    Mutation("one mirror a pixel too few", {"image"}, placed=magnified_by(-1)),
    Mutation("pixel rows repeated as a whole", {"image"}, shown=rows_repeated_as_a_whole),
    Mutation("last mirror row dark", {"image"}, shown=last_row_dark),
    Mutation("last mirror column dark", {"image"}, shown=last_column_dark),
    Mutation("last mirror row twice", {"border"}, shown=last_row_twice),
    Mutation("complement of all mirrors", {"border"}, shown=complement_of_all_mirrors),
    Mutation("border lit", {"border"}, shown=border_lit),
)


@dataclass(frozen=True)
class SometimesMutation:
    """An error of flips and rotation that is none where ``differs`` (flip_vertical, flip_horizontal, rotation) says so.

    There it renders the very bytes that are right, because both ways of turning the image come to the same.
    """

    name: str
    placed: Callable[[Region], Region]
    differs: Callable[[bool, bool, int], bool]


def rotated_back(region: Region) -> Region:
    return replace(region, rotation_deg=-region.rotation_deg % 360)


def flips_after_the_rotation(region: Region) -> Region:
    """A quarter turn makes rows of columns: flips that come after it are the other ones before it."""
    return flips_exchanged(region) if region.rotation_deg in (90, 270) else region


def flips_exchanged(region: Region) -> Region:
    return replace(region, flip_vertical=region.flip_horizontal, flip_horizontal=region.flip_vertical)


def turned_back_as_a_whole(region: Region) -> Region:
    """The inverse of flips and rotation, for which they were taken."""
    return rotated_back(flips_after_the_rotation(region))


SOMETIMES: Final = (
    SometimesMutation("clockwise for counter-clockwise", rotated_back, lambda v, h, deg: deg in (90, 270)),
    SometimesMutation(
        "flips after the rotation", flips_after_the_rotation, lambda v, h, deg: deg in (90, 270) and v is not h
    ),
    SometimesMutation("vertical and horizontal flip exchanged", flips_exchanged, lambda v, h, deg: v is not h),
    # With one flip the whole is a reflection, and that is its own inverse.
    SometimesMutation("turned back for turned", turned_back_as_a_whole, lambda v, h, deg: deg in (90, 270) and v is h),
    SometimesMutation("rotation forgotten", lambda r: replace(r, rotation_deg=0), lambda v, h, deg: deg != 0),
    SometimesMutation("vertical flip forgotten", lambda r: replace(r, flip_vertical=False), lambda v, h, deg: v),
    SometimesMutation("horizontal flip forgotten", lambda r: replace(r, flip_horizontal=False), lambda v, h, deg: h),
)


@pytest.mark.parametrize("dmd", ["xga", "1080p"])
def test_without_an_error_the_image_is_the_sample_and_the_border_is_dark(dmd: str) -> None:
    for orientation in ORIENTATIONS:
        assert nets_that_catch(Mutation("none", set(), dmd=dmd), orientation) == set()


@pytest.mark.parametrize("mutation", [*PACKING, *ORDER, *SIGN, *ORIENTATION, *REGION], ids=lambda each: str(each.name))
def test_an_error_is_caught_under_every_flip_and_rotation(mutation: Mutation) -> None:
    nets = [nets_that_catch(mutation, orientation) for orientation in ORIENTATIONS]
    assert all(nets)
    assert set.intersection(*nets) == mutation.caught_by


@pytest.mark.parametrize("mutation", SOMETIMES, ids=lambda each: str(each.name))
def test_an_error_of_some_orientations_is_caught_there_and_changes_no_bit_elsewhere(
    mutation: SometimesMutation,
) -> None:
    indices, signs = np.repeat(np.arange(N * N), 2), np.tile(np.array([1, -1], dtype=np.int8), N * N)
    for orientation in ORIENTATIONS:
        if mutation.differs(*orientation):
            assert nets_that_catch(Mutation(mutation.name, set(), placed=mutation.placed), orientation) == {"image"}
        else:
            region = dmd_region(a_config(orientation))
            right, other = (PictureRenderer(each).render(indices, signs) for each in (region, mutation.placed(region)))
            assert (right == other).all()


def test_the_bench_shares_no_code_with_the_renderer() -> None:
    """What renders pictures must not be what decodes them: an error in both would hide itself."""
    folder = Path(__file__).parents[2] / "sim_devices"
    names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert {"bench", "bits", "alp_library", "sample"} <= set(names)
    imports = "; ".join(f"import sim_devices.{name}" for name in names)
    probe = f"import sys; {imports}; print([name for name in sys.modules if name.split('.')[0] == 'models'])"
    loaded = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=folder.parent
    ).stdout
    assert "models.pictures" not in loaded
    assert "models.hadamard" not in loaded
    for name in names:
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in ("models.pictures", "models.hadamard"), name
                assert not (
                    node.module == "models" and {each.name for each in node.names} & {"pictures", "hadamard"}
                ), name
            elif isinstance(node, ast.Import):
                assert not {each.name for each in node.names} & {"models.pictures", "models.hadamard"}, name
