import pytest
import torch
from torch import nn

from miram.errors import InputError
from miram.handlers.checkpoint_files import check_same_network, read_checkpoint, write_checkpoint
from miram.handlers.checkpoint_state import start_within


def write(folder, *numbers):
    for number in numbers:
        write_checkpoint(folder / "checkpoint.pt", {"number": number, "weights": torch.full((500,), float(number))})


def number_in(folder):
    return read_checkpoint(folder / "checkpoint.pt")[0]["number"]


def damage(path, how):
    raw = bytearray(path.read_bytes())
    if how == "flipped":
        raw[raw.index(torch.full((4,), 3.0).numpy().tobytes()) + 400] ^= 1  # a bit of the weights
    path.write_bytes({"truncated": raw[: len(raw) // 2], "empty": b"", "nonsense": b"nonsense"}.get(how, raw))


def test_the_last_two_are_kept(tmp_path):
    write(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "checkpoint_previous.pt"]
    assert number_in(tmp_path) == 3
    assert torch.load(tmp_path / "checkpoint_previous.pt", weights_only=True)["number"] == 2


@pytest.mark.parametrize("how", ["flipped", "truncated", "empty", "nonsense"])
def test_of_a_damaged_one_the_one_before_is_used_and_both_are_named(tmp_path, caplog, how):
    write(tmp_path, 1, 2, 3)
    damage(tmp_path / "checkpoint.pt", how)
    assert number_in(tmp_path) == 2
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{tmp_path}/checkpoint.pt" in record.getMessage()
    assert f"{tmp_path}/checkpoint_previous.pt" in record.getMessage()


def test_a_process_that_was_killed_between_the_two_renames_lost_nothing(tmp_path, caplog):
    write(tmp_path, 1, 2)
    (tmp_path / "checkpoint.pt").unlink()
    assert number_in(tmp_path) == 1
    assert "there is no" in caplog.text


@pytest.mark.parametrize(("replaced", "left"), [("keep", 2), ("drop", 1), ("forget", None)])
def test_what_becomes_of_the_one_that_is_replaced(tmp_path, replaced, left):
    write(tmp_path, 1, 2)
    write_checkpoint(tmp_path / "checkpoint.pt", {"number": 3}, replaced)
    assert number_in(tmp_path) == 3
    (tmp_path / "checkpoint.pt").unlink()
    if left is None:
        assert not list(tmp_path.iterdir())
    else:
        assert number_in(tmp_path) == left


def test_two_damaged_ones_are_an_error_with_the_remedy(tmp_path):
    write(tmp_path, 1, 2)
    for path in tmp_path.iterdir():
        damage(path, "truncated")
    with pytest.raises(InputError, match=r"checkpoint\.pt .*checkpoint_previous\.pt .*--resume False"):
        read_checkpoint(tmp_path / "checkpoint.pt")


def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    write(tmp_path, 3)
    path, right = tmp_path / "checkpoint.pt", torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    raw = path.read_bytes()
    noticed = 0
    for place in torch.randint(len(raw), (300,)).tolist():
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :])
        try:
            content, _ = read_checkpoint(path)
        except InputError:
            noticed += 1
            continue
        assert content["number"] == 3
        assert torch.equal(content["weights"], right["weights"])
    assert noticed > 150  # the rest is padding


def test_networks_are_compared_by_name_and_shape(tmp_path):
    with pytest.raises(InputError, match="another architecture"):
        check_same_network(tmp_path, nn.Linear(1, 1), {})
    check_same_network(tmp_path, nn.Linear(1, 1), nn.Linear(1, 1).state_dict())


def test_a_loader_that_cannot_start_within_an_epoch_is_refused():
    with pytest.raises(TypeError, match="not a SequentialSampler"):
        start_within(torch.utils.data.DataLoader([1, 2]), 1, 1)
