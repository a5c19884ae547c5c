import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn

from miram.engines.distributed import (
    _fresh_store,
    gather_objects,
    is_main_process,
    on_main_process_first,
    own_share,
    patient_group,
    start_distributed,
    sum_over_processes,
    unwrap,
    world_size,
)
from miram.errors import InputError


def test_without_torchrun_there_is_one_process():
    assert world_size() == 1
    assert is_main_process()


def test_starting_without_torchrun_says_how(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(RuntimeError, match="torchrun"):
        start_distributed()


def test_one_process_has_everything():
    assert gather_objects("own") == ["own"]
    assert list(own_share(3)) == [0, 1, 2]


def test_shares_are_dealt_out_in_turn_and_none_is_empty(monkeypatch):
    monkeypatch.setattr("miram.engines.distributed.world_size", lambda: 3)
    shares = []
    for number in range(3):
        monkeypatch.setattr("miram.engines.distributed.rank", lambda number=number: number)
        shares.append(list(own_share(7)))
    assert shares == [[0, 3, 6], [1, 4], [2, 5]]
    assert list(own_share(0)) == []
    with pytest.raises(InputError, match="2 images, fewer than the 3 processes: start fewer"):
        own_share(2)


def test_unwrap_finds_the_network_inside_a_compiled_one():
    network = nn.Linear(2, 2)
    assert unwrap(torch.compile(network, backend="eager")) is network
    assert unwrap(network) is network


def test_the_main_process_does_the_work_once():
    done = []
    on_main_process_first(lambda: done.append(1))
    on_main_process_first(None)
    assert done == [1]


def work_alone_for_longer_than_an_exchange_may_take(number, store, results):
    """Of two processes the first works for 6 seconds, with a limit of 3 for exchanges."""
    limit = timedelta(seconds=3)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2, timeout=limit)
    assert patient_group() is patient_group()
    on_main_process_first(lambda: time.sleep(6))
    if number == 0:
        time.sleep(6)
    total = sum_over_processes(torch.tensor([1.0, number]))
    if number == 1:
        time.sleep(6)
    results[number] = (total.tolist(), gather_objects(number))
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_wait_for_one_that_works_alone_longer_than_for_an_exchange(tmp_path):
    with torch.multiprocessing.Manager() as manager:
        results = manager.dict()
        torch.multiprocessing.spawn(
            work_alone_for_longer_than_an_exchange_may_take, (tmp_path / "store", results), nprocs=2
        )
        assert dict(results) == dict.fromkeys((0, 1), ([2.0, 1.0], [0, 1]))


def test_nccl_has_a_limit_of_minutes_and_knows_its_gpu(monkeypatch):
    given = {}
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "init_process_group", lambda **options: given.update(options))
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    device = start_distributed()
    assert given == {"backend": "nccl", "device_id": device, "timeout": timedelta(minutes=10)}


@pytest.fixture
def restarted(monkeypatch):
    """The environment of a process that torchrun has started again, and the store of the failed one."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(server.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    place = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "3"}
    for name, value in {**address, **place}.items():
        monkeypatch.setenv(name, value)
    return server


def test_processes_that_were_started_again_do_not_read_what_failed_ones_left(restarted):
    restarted.set("address", "of a failed process")
    found = _fresh_store()
    assert (found["rank"], found["world_size"]) == (1, 2)
    assert not found["store"].check(["address"])
    found["store"].set("address", "new")
    assert restarted.get("restart_3/address") == b"new"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TORCHELASTIC_RESTART_COUNT", "0"),  # the first start
        ("TORCHELASTIC_USE_AGENT_STORE", "False"),  # torchrun makes a new store for each start
        ("WORLD_SIZE", "4"),  # several machines, which count their restarts apart
    ],
)
def test_otherwise_the_store_is_left_to_torch(name, value, restarted, monkeypatch):
    monkeypatch.setenv(name, value)
    assert _fresh_store() == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "later", "code", "printed"),
    [
        (0, "pass", 0, ["handler"]),
        (143, "raise SystemExit(143)", 143, ["handler"]),
        (0, "1 / 0", 1, ["handler", "teardown"]),
    ],
)
def test_a_run_that_is_over_skips_the_interpreters_teardown_and_a_failure_is_still_seen(status, later, code, printed):
    program = f"""
import atexit
import torch.distributed as dist
from miram.engines.distributed import stop_distributed

class Kept:
    def __del__(self):
        print("teardown")

kept = Kept()
atexit.register(print, "handler")
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
stop_distributed({status})
{later}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    assert done.stdout.split() == printed
