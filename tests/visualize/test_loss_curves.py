import numpy as np
import pandas as pd
from PIL import Image

from miram.visualize.loss_curves import plot_history


def test_a_panel_for_each_loss_and_the_learning_rate_three_in_a_row(tmp_path):
    table = {"epoch": [1, 2, 3], "learning_rate": [0.0, 1e-3, 5e-4]}
    sizes = []
    for scales in (["1x"], ["1x", "2x"], ["1x", "2x", "texture_1x"]):
        losses = {f"train_loss_{scale}": [1.0, 0.8, 0.7] for scale in scales}
        losses |= {f"val_loss_{scale}": [np.nan, 0.9, np.nan] for scale in scales}
        losses |= {f"val_mean_{scale}": [0.95] * 3 for scale in scales}
        plot_history(pd.DataFrame({**table, **losses}), tmp_path / "loss.png")
        sizes.append(Image.open(tmp_path / "loss.png").size)
    assert sizes == [(1000, 400), (1500, 400), (1500, 800)]


def test_the_loss_of_a_classifier_and_its_scores_have_panels(tmp_path):
    table = {"epoch": [1, 2], "learning_rate": [0.0, 1e-3], "train_loss": [0.7, 0.6], "val_loss": [0.7, 0.65]}
    plot_history(pd.DataFrame(table), tmp_path / "loss.png")
    assert Image.open(tmp_path / "loss.png").size == (1000, 400)
    plot_history(pd.DataFrame({**table, "val_auc": [0.5, np.nan], "val_ap": [0.4, 0.5]}), tmp_path / "loss.png")
    assert Image.open(tmp_path / "loss.png").size == (1500, 400)
