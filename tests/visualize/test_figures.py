from matplotlib.figure import Figure
from PIL import Image

from miram.visualize.figures import save_figure


def test_a_figure_is_written_at_its_size(tmp_path):
    save_figure(Figure(figsize=(3, 2)), tmp_path / "deep" / "f.png", dpi=50)
    assert Image.open(tmp_path / "deep" / "f.png").size == (150, 100)
