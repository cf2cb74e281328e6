"""The live image is made from the newest evidence, skips what came in between, and is never in the way."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from acquisition import live
from acquisition.config import AcquisitionConfig
from acquisition.evidence import Evidence, EvidenceCollector, NoEvidenceError
from acquisition.live import LiveImage, LivePipeline, warm_up
from acquisition.reconstruction import NothingSeenError, Reconstruction, reconstruct
from tests.acquisition.rehearsal import asymmetric_sample, rehearse, small_config
from tests.acquisition.test_evidence import block_of


@pytest.fixture
def config() -> AcquisitionConfig:
    return small_config(reconstruction={"refresh_s": 0.0})


def test_the_newest_state_is_shown_and_states_in_between_are_skipped(
    config: AcquisitionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def slow(evidence: Evidence, config: AcquisitionConfig, *_: object) -> Reconstruction:
        seen.append(evidence.n_blocks)
        busy.set()
        assert go_on.wait(30)
        return reconstruct(evidence, config)

    monkeypatch.setattr(live, "reconstruct", slow)
    collector = EvidenceCollector(64, 0.0)
    shown: list[LiveImage] = []
    two_shown = threading.Event()

    def show(image: LiveImage) -> None:
        shown.append(image)
        if len(shown) == 2:
            two_shown.set()

    pipeline = LivePipeline(collector, config, on_image=show)
    collector.add(block_of(0, list(range(1, 64)), 1000.0, 0.0))
    pipeline.notify()
    assert busy.wait(30)
    for number in range(1, 6):  # these come while the first image is being made
        collector.add(block_of(number, list(range(1, 64)), 1000.0, 0.0))
        pipeline.notify()
    go_on.set()
    assert two_shown.wait(30)
    pipeline.close()
    assert seen == [1, 6]
    assert [image.n_pairs for image in shown] == [63, 6 * 63]


def test_every_image_is_on_record_with_the_age_of_its_newest_block(config: AcquisitionConfig) -> None:
    now = 100.0
    collector = EvidenceCollector(64, 0.0)
    made = threading.Event()
    pipeline = LivePipeline(collector, config, on_image=lambda _: made.set(), clock=lambda: now)
    collector.add(block_of(0, list(range(1, 64)), 1000.0, 0.0))
    pipeline.notify()
    assert made.wait(30)
    pipeline.close()
    ((time_s, pairs, age_s, forecast),) = pipeline.record
    assert (time_s, pairs, age_s) == (0.0, 63.0, 0.0)
    assert forecast > 0


def test_news_of_a_block_that_is_in_the_image_already_makes_no_second_one(config: AcquisitionConfig) -> None:
    """A block is added before it is told of; an image may begin in between."""
    collector = EvidenceCollector(64, 0.0)
    shown: list[int] = []
    newest = threading.Event()

    def show(image: LiveImage) -> None:
        shown.append(image.n_pairs)
        newest.set()

    pipeline = LivePipeline(collector, config, on_image=show)
    for number, pairs in ((0, 63), (0, 63), (1, 126)):
        if pairs > collector_pairs(collector):
            newest.clear()
            collector.add(block_of(number, list(range(1, 64)), 1000.0, 0.0))
        pipeline.notify()
        assert newest.wait(30)
    pipeline.close()
    assert shown == [63, 126]


def collector_pairs(collector: EvidenceCollector) -> int:
    try:
        return collector.snapshot().n_pairs
    except NoEvidenceError:
        return 0


def test_a_failing_view_is_kept_for_the_record_and_stops_nobody(
    config: AcquisitionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(*_: object) -> Reconstruction:
        failed.set()
        raise ArithmeticError("no image today")

    monkeypatch.setattr(live, "reconstruct", fail)
    collector = EvidenceCollector(64, 0.0)
    pipeline = LivePipeline(collector, config)
    collector.add(block_of(0, [1, 2, 3], 1000.0, 0.0))
    pipeline.notify()
    assert failed.wait(30)
    pipeline.notify()
    pipeline.close()
    assert isinstance(pipeline.failure, ArithmeticError)


@pytest.mark.parametrize("estimator", ["difference", "pair-ratio"])
def test_the_view_waits_for_light_and_goes_on_when_it_comes(estimator: str) -> None:
    """Noise around darkness may leave a total below 0 in the first, short block of a dim sample."""
    config = small_config(reconstruction={"refresh_s": 0.0, "estimator": estimator})
    collector = EvidenceCollector(64, 0.0)
    collector.add(block_of(0, [1, 2, 3], -30.0, 0.0))
    with pytest.raises(NothingSeenError, match=r"found a total light of -30 .* in 3 pairs; expected more than 0"):
        reconstruct(collector.snapshot(), config)
    shown: list[int] = []
    made, looked = threading.Event(), threading.Event()

    def show(image: LiveImage) -> None:
        shown.append(image.n_pairs)
        made.set()

    class Watched(EvidenceCollector):
        def snapshot(self) -> Evidence:
            looked.set()
            return collector.snapshot()

    pipeline = LivePipeline(Watched(64, 0.0), config, on_image=show)
    pipeline.notify()
    assert looked.wait(30)
    collector.add(block_of(1, list(range(1, 64)), 1000.0, 0.0))
    pipeline.notify()
    assert made.wait(30), pipeline.failure
    pipeline.close()
    assert pipeline.failure is None
    assert shown == [66]


def test_closing_leaves_no_thread_and_can_be_repeated(config: AcquisitionConfig) -> None:
    before = threading.active_count()
    pipeline = LivePipeline(EvidenceCollector(64, 0.0), config)
    pipeline.close()
    pipeline.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("estimator", ["difference", "pair-ratio"])
@pytest.mark.parametrize("side", [8, 16])
def test_warming_up_needs_no_evidence(side: int, estimator: str) -> None:
    warm_up(small_config(sensing={"side": side}, reconstruction={"estimator": estimator, "tv_weight": 1.0}), None)


def test_images_of_a_growing_run_come_closer_to_the_sample() -> None:
    """The order of the blocks puts large prior variances first: half of the pairs give more than half of the image."""
    config = small_config(
        sensing={"side": 16, "repeats": 2},
        blocks={"first_bank_pictures": 64, "longest_block_s": 0.005},
    )
    sample = np.asarray(np.kron(asymmetric_sample(4), np.ones((4, 4))), dtype=np.float64)
    _, blocks = rehearse(config, sample)
    collector = EvidenceCollector(256, 0.0)
    errors = []
    for readings in blocks:
        collector.add(readings)
        wiener = reconstruct(collector.snapshot(), config).wiener
        errors.append(float(((wiener - sample) ** 2).mean()))
    assert errors[-1] < 1e-3 * errors[0]
    assert errors[len(errors) // 2] < 0.5 * errors[0]
