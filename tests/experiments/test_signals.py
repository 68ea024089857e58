"""Signals that come to the command while a run goes on."""

from __future__ import annotations

import os
import signal

import pytest

from edgebench.experiments.run import _interrupted_once


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _interrupted_once([]):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_end_of_the_terminal_ends_another_run_in_good_order() -> None:
    heard: list[signal.Signals] = []
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        with pytest.raises(KeyboardInterrupt, match="the end of the terminal"), _interrupted_once(heard):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert heard == [signal.SIGHUP]


def test_a_signal_that_comes_while_a_run_ends_is_noted_and_does_not_disturb_it() -> None:
    heard: list[signal.Signals] = []
    with _interrupted_once(heard) as no_longer_interrupted:
        no_longer_interrupted()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGINT, signal.SIGTERM]


def test_a_second_signal_does_not_disturb_the_end_that_the_first_began() -> None:
    heard: list[signal.Signals] = []

    def interrupted() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            heard.append(signal.SIGUSR1)  # it came to its end

    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"), _interrupted_once(heard):
        interrupted()
    assert heard == [signal.SIGINT, signal.SIGINT, signal.SIGUSR1]
