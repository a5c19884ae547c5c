import monai.data
import pytest
import torch
from filelock import FileLock, Timeout

from miram.engines.devices import best_device, best_precision, is_cuda, start_run
from miram.errors import InputError


@pytest.mark.parametrize(("gpu", "bfloat16", "expected"), [(True, True, "bfloat16"), (True, False, "float16")])
def test_the_precision_is_what_the_gpu_computes_in(monkeypatch, gpu, bfloat16, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bfloat16)
    assert best_device() == torch.device("cuda")
    assert best_precision("cuda:1") == expected


def test_a_cpu_computes_in_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert best_device() == torch.device("cpu")
    assert best_precision("cpu") == "float32"
    assert not is_cuda(torch.device("cpu"))


def test_a_run_starts_with_its_seed_and_metadata_as_asked():
    start_run("cpu", seed=3, track_meta=True)
    first = torch.rand(1)
    assert monai.data.get_track_meta()
    start_run("cpu", seed=3)
    assert torch.equal(torch.rand(1), first)
    assert not monai.data.get_track_meta()


def test_a_run_claims_its_folder(tmp_path):
    start_run("cpu", output_dir=tmp_path / "run")
    lock = FileLock(tmp_path / "run/.lock")
    with pytest.raises(Timeout):
        lock.acquire(timeout=0)


def test_several_processes_that_have_not_joined_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"torchrun started 2 processes, but this config is for one"):
        start_run("cpu")


@pytest.mark.parametrize(("device", "precision"), [("cuda", "high"), ("cpu", "highest")])
def test_products_of_float32_are_faster_on_a_gpu_only(monkeypatch, device, precision):
    set_to = ["highest"]
    monkeypatch.setattr(torch, "set_float32_matmul_precision", set_to.append)
    start_run(device)
    monai.data.set_track_meta(True)
    assert set_to[-1] == precision
