from ignite.engine import Engine
from torch import nn

from miram.handlers.summary import ProgressHandler, SummaryHandler


def test_the_facts_come_first_and_the_files_last(tmp_path, caplog):
    (tmp_path / "backbone.pt").write_bytes(b"x" * 2048)
    network = nn.Linear(100, 100)
    network.bias.requires_grad_(False)
    engine = Engine(lambda engine, batch: None)
    SummaryHandler(network, {"effective learning rate": 0.00015, "scales": [1, 2]}, tmp_path).attach(engine)
    with caplog.at_level("INFO"):
        engine.run([0, 0], max_epochs=1)
    text = caplog.text
    assert "0.01 M trained, 0.00 M fixed" in text
    assert "effective learning rate: 0.00015" in text
    assert "scales: [1, 2]" in text
    assert text.index("scales") < text.index("finished epoch 1")
    assert "backbone.pt" in text
    assert "2.0 KiB" in text


def test_a_log_file_gets_no_bars(capsys):
    engine = Engine(lambda engine, batch: None)
    ProgressHandler("training").attach(engine)
    engine.run([0, 0], max_epochs=1)
    assert capsys.readouterr().err == ""  # pytest captures: no terminal
