import copy
import logging

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose, Lambdad
from torch.utils.data import DataLoader

from miram.data.datalist import write_datalist
from miram.errors import InputError
from miram.handlers import representation
from miram.handlers.representation import NeighborProbe, RepresentationMonitor, effective_rank

CLASSES = {"kind": ["a", "b"]}


def draw(path):
    """An image that its file's name decides: class "a" is bright on the left, class "b" on the right."""
    name, noise = path.rsplit("/", 1)[-1], torch.Generator().manual_seed(sum(path.rsplit("/", 1)[-1].encode()))
    image = 0.1 * torch.randn(1, 32, 32, generator=noise)
    image[..., slice(16) if name.startswith("a") else slice(16, 32)] += 1
    return image


PREPROCESSING = Compose([Lambdad("label", draw)])


def prepare(folder, training, validation):
    """A folder of images named after their class, those in capitals having no known label."""

    def items(names, split):
        folder.mkdir(exist_ok=True)
        found = []
        for number, name in enumerate(names):
            (folder / f"{name}{split}{number}").touch()
            kind = name if name.islower() else None
            found.append({"image": f"{name}{split}{number}", "patient": f"{split}{number}", "kind": kind})
        return found

    splits = {"training": items(training, "t"), "validation": items(validation, "v"), "test": []}
    write_datalist(folder, {**splits, "label_names": CLASSES})
    return folder


def dataset(count):
    return [{"label": draw(f"{'ab'[n % 2]}{n}"), "index": n, "epoch": 0} for n in range(count)]


def monitor(encoder, images, **options):
    """A monitor and an engine that notes the metrics of each epoch."""
    loader = DataLoader(images, 4, generator=torch.Generator())
    handler = RepresentationMonitor(encoder, loader, (32, 32), torch.device("cpu"), **options)
    engine, seen = Engine(lambda engine, batch: None), []
    handler.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(dict(e.state.metrics)))
    return engine, seen


def test_every_few_epochs_there_is_the_rank_of_the_class_tokens(tiny_encoder):
    images = dataset(6)
    engine, seen = monitor(tiny_encoder, images, interval=2)
    engine.run([0], max_epochs=4)
    with torch.no_grad():
        tokens = tiny_encoder(torch.stack([image["label"] for image in images]))[:, 0]
    assert [list(metrics) for metrics in seen] == [[], ["rank"], [], ["rank"]]
    assert seen[1]["rank"] == pytest.approx(effective_rank(tokens.numpy()), rel=1e-4)


def test_an_encoder_without_class_token_gives_the_mean_of_its_patches(monkeypatch, tiny_encoder):
    tiny_encoder.cls_token = None
    images, given = dataset(2), []
    monkeypatch.setattr(representation, "effective_rank", lambda features: given.append(features) or 1.0)
    monitor(tiny_encoder, images)[0].run([0], max_epochs=1)
    with torch.no_grad():
        expected = tiny_encoder(torch.stack([image["label"] for image in images])).mean(dim=1)
    np.testing.assert_allclose(given[0], expected.numpy(), rtol=1e-5, atol=1e-6)


def generator_states():
    """The global generators of torch and NumPy, in which a change would change training."""
    return torch.get_rng_state().tolist(), str(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("training", [True, False])
def test_looking_changes_neither_weights_nor_mode_nor_generators(tiny_encoder, training):
    tiny_encoder.train(training)
    weights, before = copy.deepcopy(tiny_encoder.state_dict()), generator_states()
    monitor(tiny_encoder, dataset(5))[0].run([0], max_epochs=1)
    assert all(torch.equal(value, weights[name]) for name, value in tiny_encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny_encoder.parameters())
    assert all(module.training == training for module in tiny_encoder.modules())
    assert generator_states() == before


def test_neighbours_tell_the_label_and_unknown_labels_do_not_count(tmp_path, tiny_encoder):
    # the images in capitals look like class "b": taken for labelled ones they would be counted
    folder = prepare(tmp_path / "data", "aBabaBb", "abBab")
    probe = NeighborProbe(folder, "kind", PREPROCESSING, neighbors=2)
    assert [item["label"].rsplit("/", 1)[-1][0] for item in probe.loader.dataset.data] == list("aabab")
    assert probe.targets[:, 0].tolist() == [0, 0, 1, 0, 1]
    images = [{"label": draw(name), "index": n, "epoch": 0} for n, name in enumerate(["a0", "b1", "B2", "a3", "b4"])]
    engine, seen = monitor(tiny_encoder, images, probe=probe)
    engine.run([0], max_epochs=1)
    assert seen[0]["knn_auc"] == seen[0]["knn_ap"] == 1


@pytest.mark.parametrize(("training", "validation"), [("abab", "aaB"), ("ABA", "abab")])
def test_labels_that_define_nothing_are_said_and_done_without(tmp_path, tiny_encoder, caplog, training, validation):
    folder = prepare(tmp_path / "data", training, validation)
    engine, seen = monitor(tiny_encoder, dataset(4), probe=NeighborProbe(folder, "kind", PREPROCESSING))
    with caplog.at_level(logging.WARNING):
        engine.run([0], max_epochs=1)
    assert list(seen[0]) == ["rank"]
    assert "knn_auc is not available" in caplog.text


def test_a_task_that_the_data_lacks_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no task 'density'; it has kind"):
        NeighborProbe(prepare(tmp_path / "data", "ab", "ab"), "density", PREPROCESSING)


def test_features_that_are_not_finite_leave_the_epoch_without(tiny_encoder, caplog):
    tiny_encoder.cls_token.data.fill_(float("nan"))
    engine, seen = monitor(tiny_encoder, dataset(3))
    engine.run([0], max_epochs=1)
    assert seen == [{}]
    assert "not finite" in caplog.text


def test_processes_share_the_images_and_the_first_sets_the_metrics(tiny_encoder, monkeypatch):
    images, given = dataset(5), []
    whole = RepresentationMonitor(tiny_encoder, DataLoader(images, 5), (32, 32), torch.device("cpu"))
    expected = whole._encode(whole.loader)
    other = {n: expected[n] for n in (1, 3)}
    monkeypatch.setattr(representation, "gather_objects", lambda own: [own, other])
    monkeypatch.setattr(representation, "effective_rank", lambda features: given.append(features) or 1.0)
    share = [images[n] for n in (0, 2, 4)]
    assert monitor(tiny_encoder, share)[0].run([0], max_epochs=1).metrics == {"rank": 1.0}
    np.testing.assert_allclose(given[0], expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(representation, "is_main_process", lambda: False)
    assert monitor(tiny_encoder, share)[0].run([0], max_epochs=1).metrics == {}


def orthonormal(count, width):
    return np.linalg.qr(np.random.default_rng(0).normal(size=(width, count)))[0].T


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        (np.eye(7), 7),
        (3 * np.eye(4, 9), 4),
        (orthonormal(5, 12), 5),
        (np.tile(np.arange(1.0, 7.0), (10, 1)), 1),
        (np.zeros((4, 3)), 0),
    ],
)
def test_the_rank_of_known_matrices(features, expected):
    assert effective_rank(features.astype(np.float32)) == pytest.approx(expected, rel=1e-5)


def test_the_rank_is_the_exponential_of_the_entropy_of_the_singular_values():
    share = np.array([0.5, 0.25, 0.25])
    assert effective_rank(np.diag(4 * share)) == pytest.approx(2**1.5)
