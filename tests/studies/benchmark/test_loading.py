import numpy as np

from miram.data.datalist import write_datalist
from miram.loading.packed import pack_folder
from miram.prepare.prepared import write_png16
from studies.benchmark.loading import measure_loading


def test_every_loader_is_timed_in_every_round(tmp_path):
    items = []
    for n in range(4):
        write_png16(tmp_path / f"images/{n}.png", np.full((20, 20), n, np.uint16))
        items.append({"image": f"images/{n}.png", "mask": None, "patient": f"p{n}"})
    write_datalist(tmp_path / "datalist.json", {"training": items, "validation": [], "test": []})
    pack_folder(tmp_path)
    table = measure_loading(tmp_path, crop_size=16, batch_size=8, batches=2, repeats=3)
    assert table["loader"].str.contains("packed").sum() == 2
    assert table["loader"].str.contains("MONAI").sum() == 2
    assert (table["low"] <= table["crops_per_cpu_second"]).all()
    assert (table["crops_per_cpu_second"] <= table["high"]).all()
    assert (table["low"] > 0).all()
