from ignite.engine import Engine

from miram.handlers.progress import ProgressHandler


def test_a_log_file_gets_no_bars(capsys):
    engine = Engine(lambda engine, batch: None)
    ProgressHandler("training").attach(engine)
    engine.run([0, 0], max_epochs=1)
    assert capsys.readouterr().err == ""  # pytest captures: no terminal
