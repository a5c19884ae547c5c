import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from miram.engines import stopping
from miram.engines.stopping import Agreement, Stopped, StopRequest


@pytest.fixture
def request_(monkeypatch):
    """A watching request, with the signals that it would send to its own process."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda process, number: sent.append(number))
    watching = StopRequest()
    watching.watch()
    yield watching, sent
    watching.restore()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def test_the_first_signal_is_noted_and_a_second_one_ends_the_process(request_):
    watching, sent = request_
    told: list[int] = []
    watching.at_once = told.append
    signal.raise_signal(signal.SIGTERM)
    assert (watching.signal, told, sent) == (signal.SIGTERM, [signal.SIGTERM], [])
    signal.raise_signal(signal.SIGTERM)
    assert sent == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(("seconds", "ended"), [(1.0, False), (60.0, True)])
def test_of_several_processes_a_repeat_within_seconds_is_the_same_request(request_, monkeypatch, seconds, ended):
    watching, sent = request_
    monkeypatch.setattr(stopping, "world_size", lambda: 2)
    now = 100.0
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now)
    signal.raise_signal(signal.SIGTERM)
    now += seconds
    signal.raise_signal(signal.SIGTERM)
    assert bool(sent) == ended
    assert watching.signal == signal.SIGTERM


def test_handlers_are_given_back_and_none_is_set_outside_the_main_thread():
    before = signal.getsignal(signal.SIGTERM)
    watching = StopRequest()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(watching.watch).result()
    assert signal.getsignal(signal.SIGTERM) == before
    watching.watch()
    assert signal.getsignal(signal.SIGTERM) != before
    watching.restore()
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_stopped_process_exits_with_the_status_of_its_signal():
    with pytest.raises(SystemExit) as ended:
        raise Stopped(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert str(ended.value) == "stopped by SIGTERM"


def test_processes_agree_on_the_largest_wishes_and_the_smallest_number(monkeypatch):
    store = dist.HashStore()
    group = threading.local()
    monkeypatch.setattr(stopping, "patient_group", lambda: group.own)

    def process(rank, wishes, number):
        group.own = dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=60))
        agreement = Agreement()
        unasked = agreement.answer()
        agreement.ask(*wishes)
        return unasked, agreement.answer(), agreement.answer(), agreement.smallest_now(number)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(process, (0, 1), ((0, 3), (2, 1)), (7, 5)))
    assert found == [((), (2, 3), (), 5)] * 2
