"""Those who work for a run can see, and are told, when its reader has gone."""

from __future__ import annotations

import threading
from contextvars import copy_context

import pytest

from langchain_hybridflow.calls.tether import RunAbandoned, Tether, tether_here


def test_check_stops_whoever_begins_something_when_cut():
    tether = Tether()
    tether.check()
    tether.cut()
    with pytest.raises(RunAbandoned):
        tether.check()


def test_waker_is_called_when_cut():
    tether, woken = Tether(), threading.Event()
    with tether.waking(woken.set):
        tether.cut()
        assert not woken.is_set()
        tether.wake()
        assert woken.is_set()


def test_waker_is_called_at_once_when_cut_before():
    tether, woken = Tether(), threading.Event()
    tether.cut()
    with tether.waking(woken.set):
        assert woken.is_set()


def test_waker_is_forgotten_when_nobody_waits_any_more():
    tether, woken = Tether(), threading.Event()
    with tether.waking(woken.set):
        pass
    tether.cut()
    tether.wake()
    assert not woken.is_set()


def test_pause_ends_at_once_when_cut():
    tether = Tether()
    tether.cut()
    tether.pause(3_600)


def test_inner_run_is_cut_when_the_outer_one_is():
    outer = Tether()
    inner, beside = Tether(outer), Tether(outer)
    beside.cut()
    assert not outer.is_cut
    assert not inner.is_cut
    outer.cut()
    assert inner.is_cut


def test_tether_is_found_where_it_was_tied_and_nowhere_else():
    tether = Tether()
    context = copy_context()
    context.run(tether.tie)
    assert context.run(tether_here) is tether
    assert tether_here() is None
