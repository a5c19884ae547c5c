"""A pretraining starts from our files and from randomly initialised networks of the libraries."""

import logging

import pytest
import torch
from torch import nn

from miram.errors import InputError
from miram.networks.miram import MIRAM
from miram.networks.two_views import TwoViewNetwork
from miram.networks.vit_encoder import ViTEncoder
from miram.weights.backbone import backbone_from_encoder, save_weights_file
from miram.weights.initial import initial_weights, lineage

RANGE = {"a_min": 0, "a_max": 65535, "b_min": -2.0, "b_max": 2.0}
SIZES = {"hidden_size": 24, "mlp_dim": 48, "num_layers": 2, "num_heads": 2}
AT_1X = {"scale": 1, "hidden_size": 16, "num_layers": 1, "num_heads": 2}


def network_of(img_size=32, decoders=(AT_1X,), texture_outputs=0, **arguments):
    encoder = ViTEncoder(1, img_size, 8, **{**SIZES, **arguments})
    return varied(MIRAM(encoder, decoders, texture_outputs=texture_outputs))


def varied(network):
    """Let nothing be left at zero or one, so that a mistaken bias or norm shows; fixed positions stay."""
    for name, parameter in network.named_parameters():
        if "pos" not in name:
            nn.init.normal_(parameter, std=0.2)
    return network.eval()


def started(network, path):
    """The network with the initial weights, as the checkpoint handler loads them, and their facts."""
    initial = initial_weights(network, path, RANGE)
    network.load_state_dict({**network.state_dict(), **initial.state_dict})
    return initial.facts


def backbone(path, network, **provenance):
    save_weights_file(path, backbone_from_encoder(network.encoder, RANGE, provenance))
    return path


def checkpoint(path, network, **provenance):
    content = {"network": network.state_dict(), "optimizer": {}, "iteration": 4, "provenance": provenance}
    torch.save(content, path)
    return path


def equal(one, other):
    return {name for name, value in one.state_dict().items() if torch.equal(value, other.state_dict()[name])}


@pytest.mark.parametrize("nothing", [None, "none"])
def test_without_a_file_the_weights_stay_random(nothing):
    assert initial_weights(network_of(), nothing, RANGE) is None


def test_a_backbone_gives_its_encoder_and_the_decoders_stay_random(tmp_path, caplog):
    given, network = network_of(), network_of()
    before = network.decoders[0].head.weight.clone()
    with caplog.at_level(logging.INFO):
        facts = started(network, backbone(tmp_path / "backbone.pt", given, seed=3))
    assert equal(given.encoder, network.encoder) == given.encoder.state_dict().keys()
    assert torch.equal(network.decoders[0].head.weight, before)
    assert facts["provenance"] == {"seed": 3}
    assert (facts["format"], facts["decoders"]) == ("miram", [])
    assert "the decoder at 1x starts from random weights" in caplog.text


def test_a_checkpoint_gives_the_decoders_of_the_same_scale_that_fit(tmp_path, caplog):
    given = network_of(decoders=[AT_1X, {**AT_1X, "scale": 2}])
    path = checkpoint(tmp_path / "checkpoint.pt", given, scales=[1, 2])
    network = network_of(decoders=[{**AT_1X, "scale": 2}, {**AT_1X, "num_layers": 2}])
    facts = started(network, path)
    assert facts["decoders"] == [2]
    assert equal(given.decoders[1], network.decoders[0]) == given.decoders[1].state_dict().keys()
    assert equal(given.encoder, network.encoder) == given.encoder.state_dict().keys()
    assert "the decoder at 1x starts from random weights: 12 of its 32 weights do not fit" in caplog.text


def test_a_checkpoint_gives_the_head_that_predicts_texture_if_it_fits(tmp_path, caplog):
    given, network = network_of(texture_outputs=5), network_of(texture_outputs=5)
    path = checkpoint(tmp_path / "checkpoint.pt", given, scales=[1])
    assert started(network, path)["texture_head"] is True
    assert torch.equal(network.texture_head[1].weight, given.texture_head[1].weight)
    assert started(network_of(texture_outputs=6), path)["texture_head"] is False
    assert "the head that predicts texture starts from random weights: 2 of its 4 weights do not fit" in caplog.text
    assert started(network_of(), path)["texture_head"] is False


def test_fixed_positions_are_those_of_the_runs_own_grid(tmp_path):
    given = network_of()
    paths = [backbone(tmp_path / "b.pt", given), checkpoint(tmp_path / "c.pt", given, scales=[1])]
    for path in paths:
        network, fresh = network_of(img_size=(48, 32)), network_of(img_size=(48, 32))
        started(network, path)
        own = [part.encoder.patch_embedding.position_embeddings for part in (network, fresh)]
        assert torch.equal(*own)
        assert torch.equal(network.encoder.norm.weight, given.encoder.norm.weight)


def test_a_network_without_decoders_starts_from_a_checkpoint_too(tmp_path):
    given = network_of()
    network = TwoViewNetwork(network_of().encoder, [8])
    started(network, checkpoint(tmp_path / "c.pt", given, scales=[1]))
    assert torch.equal(network.encoder.norm.weight, given.encoder.norm.weight)


def hugging_face_mae(**changes):
    transformers = pytest.importorskip("transformers", reason="transformers (extra `test`) is not installed")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    decoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.ViTMAEConfig(
        **sizes,
        **{f"decoder_{name}": value for name, value in decoder.items()},
        **{"image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-5, "mask_ratio": 0.5, **changes},
    )
    return varied(transformers.ViTMAEForPreTraining(config))


@pytest.mark.parametrize("saved_as", ["state_dict", "pretrained"])
def test_an_mae_of_hugging_face_predicts_the_same_with_its_decoder(tmp_path, saved_as):
    """The mean of the three colors; files and state dictionaries name layers differently."""
    theirs = hugging_face_mae()
    path = tmp_path / "mae.pt"
    if saved_as == "state_dict":
        torch.save(theirs.state_dict(), path)
    else:
        theirs.save_pretrained(tmp_path)
        path = tmp_path / "model.safetensors"
    network = network_of(pos_embed_type="learnable")
    assert started(network, path)["decoders"] == [1]
    image, keep = torch.randn(2, 1, 32, 32), torch.arange(8).expand(2, -1)
    with torch.no_grad():
        expected = theirs(image.expand(-1, 3, -1, -1), noise=torch.arange(16.0).expand(2, -1)).logits
        found = network(image, keep)["predictions"][0]
    torch.testing.assert_close(found, expected.unflatten(2, (-1, 3)).mean(3), atol=1e-4, rtol=1e-4)


def test_the_names_of_maes_authors_are_known(tmp_path):
    theirs = hugging_face_mae().state_dict()
    content = {}
    for key, value in theirs.items():
        name = key.removeprefix("vit.").removeprefix("decoder.").removeprefix("embeddings.")
        content[name] = value
    renamed = {
        "position_embeddings": "pos_embed",
        "patch_embeddings.projection": "patch_embed.proj",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "layernorm.": "norm.",
        "o_proj": "proj",
        "attention": "attn",
        "decoder_layers": "decoder_blocks",
        "layers.": "blocks.",
    }
    for old, new in renamed.items():
        content = {key.replace(old, new): value for key, value in content.items()}
    for key in [key for key in content if ".q_proj." in key]:
        parts = [content.pop(key.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
        content[key.replace("q_proj", "qkv")] = torch.cat(parts)
    torch.save({"model": content}, tmp_path / "theirs.pth")
    torch.save(theirs, tmp_path / "hugging_face.pth")
    states = [
        initial_weights(network_of(pos_embed_type="learnable"), tmp_path / name, RANGE)
        for name in ("theirs.pth", "hugging_face.pth")
    ]
    assert states[0].facts["decoders"] == [1]
    assert states[0].state_dict.keys() == states[1].state_dict.keys()
    for key, value in states[0].state_dict.items():
        torch.testing.assert_close(value, states[1].state_dict[key])


def test_learned_positions_are_interpolated_for_another_grid(tmp_path):
    torch.save(hugging_face_mae().state_dict(), tmp_path / "mae.pt")
    network = network_of(img_size=64, pos_embed_type="learnable")
    assert started(network, tmp_path / "mae.pt")["decoders"] == [1]
    assert network.encoder.patch_embedding.position_embeddings.shape == (1, 64, 24)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 3}, r'num_layers is 2, here 3. Add --num_layers "2", or give another --init'),
        ({"num_heads": 4, "class_token": False}, r'Add --num_heads "2" --class_token "True"'),
        ({"pos_embed_type": "learnable"}, r'Add --pos_embed_type "sincos"'),
    ],
)
def test_an_encoder_of_other_sizes_is_refused_with_the_options_to_set(tmp_path, arguments, message):
    path = backbone(tmp_path / "backbone.pt", network_of())
    with pytest.raises(InputError, match=message):
        initial_weights(network_of(**arguments), path, RANGE)


def test_public_weights_need_positions_that_can_be_theirs(tmp_path):
    torch.save(hugging_face_mae().state_dict(), tmp_path / "mae.pt")
    with pytest.raises(InputError, match=r'Add --pos_embed_type "learnable"'):
        initial_weights(network_of(), tmp_path / "mae.pt", RANGE)


def test_other_files_are_refused(tmp_path):
    torch.save({"network": {"head.weight": torch.zeros(1)}, "optimizer": {}, "iteration": 1}, tmp_path / "c.pt")
    with pytest.raises(InputError, match="checkpoint of another kind of run"):
        initial_weights(network_of(), tmp_path / "c.pt", RANGE)
    with pytest.raises(InputError, match=r"no pretrained file .*absent\.pt.*--init none"):
        initial_weights(network_of(), tmp_path / "absent.pt", RANGE)


def test_a_lineage_leads_back_to_the_first_weights():
    first = {"seed": 1}
    second = {"seed": 2, "initial_weights": {"provenance": first}}
    assert list(lineage({"initial_weights": {"provenance": second}}))[1:] == [second, first]
