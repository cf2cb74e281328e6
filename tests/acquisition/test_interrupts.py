"""The first request to end interrupts, none interrupts an ending, and an ending forgets nothing that went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from acquisition.interrupts import Ending, orderly_interrupts, request_end

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


def elsewhere(call: Callable[[], object]) -> list[object]:
    """What a call gives in another thread, which has ended."""
    given: list[object] = []
    thread = threading.Thread(target=lambda: given.append(call()))
    thread.start()
    thread.join(30)
    return given


def test_another_thread_can_ask_for_the_end_and_says_why() -> None:
    with pytest.raises(KeyboardInterrupt, match=r"^enough seen$"), orderly_interrupts():
        assert elsewhere(lambda: request_end("enough seen")) == [True]
        time.sleep(30)  # whatever the system delivers late comes within this


def test_a_main_thread_that_sleeps_is_woken() -> None:
    asker = threading.Timer(0.05, lambda: request_end("wake up"))
    with pytest.raises(KeyboardInterrupt, match="wake up"), orderly_interrupts():
        asker.start()
        time.sleep(60)
    asker.join(30)


def test_where_nothing_is_under_way_nobody_is_interrupted() -> None:
    assert not request_end("too early")
    with orderly_interrupts():
        pass
    assert elsewhere(lambda: request_end("too late")) == [False]


def test_a_request_amid_an_ending_changes_nothing_and_one_amid_a_normal_ending_keeps_its_reason() -> None:
    taken: list[str] = []
    with pytest.raises(OSError, match="the first cause"), orderly_interrupts(), Ending() as ending:
        ending.callback(taken.append, "light off")
        ending.callback(lambda: elsewhere(lambda: request_end("meanwhile")))
        raise OSError("the first cause")
    assert taken == ["light off"]
    with pytest.raises(KeyboardInterrupt, match="meanwhile"), orderly_interrupts():
        with Ending() as ending:
            ending.callback(taken.append, "light off again")
            ending.callback(lambda: elsewhere(lambda: request_end("meanwhile")))
        taken.append("never")
    assert taken == ["light off", "light off again"]


def test_further_requests_change_neither_the_end_nor_its_reason() -> None:
    taken: list[str] = []
    with pytest.raises(KeyboardInterrupt, match=r"^first$"), orderly_interrupts(), Ending() as ending:
        ending.callback(taken.append, "light off")
        ending.callback(lambda: elsewhere(lambda: request_end("second")))
        elsewhere(lambda: request_end("first"))
        time.sleep(30)
    assert taken == ["light off"]


def test_the_reason_of_one_run_is_not_that_of_the_next() -> None:
    with pytest.raises(KeyboardInterrupt, match="first"), orderly_interrupts():
        elsewhere(lambda: request_end("first"))
        time.sleep(30)
    with pytest.raises(KeyboardInterrupt) as ended, orderly_interrupts():
        ask_to_end()
    assert str(ended.value) == ""


@pytest.mark.skipif(os.name != "posix", reason="other systems have no signals that a process is told to ignore")
@pytest.mark.parametrize(
    ("ignored", "said"),
    [
        (("SIGINT",), "True interrupted: asked"),
        (("SIGHUP", "SIGINT"), "True interrupted: asked"),
        (("SIGINT", "SIGTERM", "SIGHUP"), "False goes on"),
    ],
)
def test_in_the_background_a_request_uses_what_is_not_ignored(ignored: tuple[str, ...], said: str) -> None:
    program = (
        "import signal, threading, time\n"
        "from acquisition.interrupts import orderly_interrupts, request_end\n"
        f"for name in {ignored!r}:\n"
        "    signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
        "asked = []\n"
        "try:\n"
        "    with orderly_interrupts():\n"
        "        thread = threading.Thread(target=lambda: asked.append(request_end('asked')))\n"
        "        thread.start()\n"
        "        thread.join()\n"
        "        if asked[0]:\n"
        "            time.sleep(30)\n"
        "    print(asked[0], 'goes on')\n"
        "except KeyboardInterrupt as stop:\n"
        "    print(True, f'interrupted: {stop}')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == said
