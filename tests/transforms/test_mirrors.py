import pytest
import torch

from miram.transforms.mirrors import mirror_images


@pytest.mark.parametrize("dims", [2, 3])
def test_every_mirror_image_comes_once_and_the_image_first(dims):
    image = torch.arange(2 * 3**dims, dtype=torch.float32).reshape(2, 1, *[3] * dims)
    versions = list(mirror_images(image))
    assert torch.equal(versions[0], image)
    assert len({tuple(version.flatten().tolist()) for version in versions}) == len(versions) == 2**dims
    for version in versions:
        torch.testing.assert_close(version.flatten(1).sort().values, image.flatten(1))
