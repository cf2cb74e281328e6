"""The first request to end interrupts, none interrupts an ending, and an ending forgets nothing that went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from acquisition.interrupts import Ending, orderly_interrupts

ROOT = Path(__file__).parents[2]


def ask_to_end() -> None:
    """What Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)


def fail(text: str, note: str = "") -> None:
    error = OSError(text)
    if note:
        error.add_note(note)
    raise error


def test_the_first_request_interrupts_and_further_ones_change_nothing() -> None:
    taken: list[str] = []
    with pytest.raises(KeyboardInterrupt), orderly_interrupts(), Ending() as ending:
        ending.callback(taken.append, "first registered")
        ending.callback(ask_to_end)
        ending.callback(taken.append, "last registered")
        ask_to_end()
        taken.append("never")
    assert taken == ["last registered", "first registered"]


def test_a_request_amid_a_normal_ending_counts_when_that_is_done() -> None:
    taken: list[str] = []
    with pytest.raises(KeyboardInterrupt), orderly_interrupts():
        with Ending() as ending:
            ending.callback(taken.append, "light off")
            ending.callback(ask_to_end)
        taken.append("never")
    assert taken == ["light off"]


def test_a_request_amid_a_nested_ending_waits_for_the_outer_one_that_is_under_way() -> None:
    taken: list[str] = []

    def end_inside() -> None:
        with Ending() as inner:
            inner.callback(taken.append, "inner")
            inner.callback(ask_to_end)
        taken.append("after the inner one")

    with pytest.raises(KeyboardInterrupt), orderly_interrupts(), Ending() as ending:
        ending.callback(taken.append, "outer")
        ending.callback(end_inside)
    assert taken == ["inner", "after the inner one", "outer"]


def test_the_next_run_in_the_same_process_can_be_interrupted_again() -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), orderly_interrupts():
            ask_to_end()
    before = signal.getsignal(signal.SIGINT)
    with orderly_interrupts():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_the_error_that_ends_goes_on_and_everything_that_failed_besides_is_noted_on_it() -> None:
    with pytest.raises(ValueError, match="the first cause") as ended, Ending() as ending:
        ending.callback(fail, "the board stays allocated")
        ending.callback(fail, "the light does not answer", "the light may be on")
        raise ValueError("the first cause")
    assert ended.value.__notes__ == [
        "while ending, also: the light does not answer",
        "the light may be on",
        "while ending, also: the board stays allocated",
    ]


def test_without_an_error_the_first_step_that_failed_is_raised_with_the_others_as_notes() -> None:
    with pytest.raises(OSError, match="the light does not answer") as ended, Ending() as ending:
        ending.callback(fail, "the board stays allocated")
        ending.callback(fail, "the light does not answer", "the light may be on")
    assert ended.value.__notes__ == ["the light may be on", "while ending, also: the board stays allocated"]


def test_in_another_thread_signals_are_nobodys_business() -> None:
    outcome: list[str] = []

    def run() -> None:
        with orderly_interrupts(), Ending() as ending:
            ending.callback(outcome.append, "ended")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert outcome == ["ended"]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no terminals that hang up")
@pytest.mark.parametrize(("ignored", "said"), [(True, "goes on"), (False, "interrupted")])
def test_a_terminal_that_is_closed_interrupts_unless_the_process_was_told_to_ignore_that(
    ignored: bool, said: str
) -> None:
    program = (
        "import os, signal\n"
        "from acquisition.interrupts import orderly_interrupts\n"
        f"signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if ignored else 'SIG_DFL'})\n"
        "try:\n"
        "    with orderly_interrupts():\n"
        "        os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('goes on')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == said
