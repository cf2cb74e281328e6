"""How long a run still takes: as its clock is predicted, until its own blocks tell how fast it really goes."""

from __future__ import annotations

from itertools import accumulate

from acquisition.config import AcquisitionConfig
from acquisition.run_time import predict_run_time
from acquisition.schedule import Schedule
from acquisition.sensing_plan import run_rates
from acquisition.time_left import TimeLeft


class RunTimeLeft:
    """Of one run; times are seconds of any clock that never goes back."""

    def __init__(self, schedule: Schedule, config: AcquisitionConfig) -> None:
        rates = run_rates(config)
        blocks_us = [rates.arming_us + block.n_exposures * rates.exposure_us for block in schedule.blocks]
        # Waiting for banks is spread over all blocks.
        self._shares = [played_us / sum(blocks_us) for played_us in accumulate(blocks_us)]
        self._predicted_s = predict_run_time(schedule, rates, config.blocks.dark_exposures).total_s
        if config.simulated:
            self._predicted_s *= config.bench.pace
        self._share = 0.0
        self._newest_s: float | None = None
        self._first_block = 0
        self._measured = TimeLeft()

    def began(self, now_s: float, first_block: int) -> None:
        """The run began, or went on, with this block."""
        self._newest_s, self._first_block = now_s, first_block

    def played(self, block: int, now_s: float) -> None:
        """A block was accepted; those from before a run was resumed say nothing of its speed."""
        self._share, self._newest_s = self._shares[block], now_s
        (self._measured.reached if block >= self._first_block else self._measured.found)(self._share, now_s)

    def left_s(self, now_s: float) -> float | None:
        """Seconds until the last block's end; None where nobody can tell."""
        measured_s = self._measured.seconds(now_s)
        if measured_s is not None or self._predicted_s == 0:
            return measured_s
        since_s = 0.0 if self._newest_s is None else now_s - self._newest_s
        return max((1 - self._share) * self._predicted_s - since_s, 0.0)
