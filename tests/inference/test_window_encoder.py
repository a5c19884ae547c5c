import pytest

from miram.errors import InputError
from miram.inference.tiles import TileEncoder, load_tile_encoder
from miram.inference.token_maps import TokenMapEncoder, load_token_map_encoder

from ..exam_case import make_backbone


@pytest.mark.parametrize(
    ("kind", "load", "options"),
    [(TileEncoder, load_tile_encoder, {"overlap": 0.25}), (TokenMapEncoder, load_token_map_encoder, {"blocks": [1]})],
)
def test_an_encoder_is_restored_from_its_settings(tmp_path, kind, load, options):
    encoder = load(make_backbone(tmp_path / "backbone.pt"), "cpu", precision="bfloat16", **options)
    again = kind.restored("model.pt", encoder.network, encoder.settings, batch_size=3, precision="float32")
    assert again.settings == {**encoder.settings, "precision": "float32"}
    assert again.settings["weights"] == encoder.facts["weights"]
    assert again.batch_size == 3
    for name in {*options, "field_of_view", "preprocessing"}:
        incomplete = {key: value for key, value in encoder.settings.items() if key != name}
        with pytest.raises(InputError, match=r"model\.pt is damaged"):
            kind.restored("model.pt", encoder.network, incomplete)


def test_what_is_missing_or_of_no_use_is_an_error(tmp_path):
    with pytest.raises(InputError, match="give --backbone"):
        load_tile_encoder(None, "cpu")
    with pytest.raises(InputError, match="is not two numbers"):
        load_tile_encoder(make_backbone(tmp_path / "backbone.pt"), "cpu", field_of_view=[32])
