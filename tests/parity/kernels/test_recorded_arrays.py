"""Every recorded array of the ops without a Pallas version is read by one of them."""

import pytest

from tests.parity.kernels.recorded import unread_arrays

OPS = ["bit_grid", "frequency_encoding", "occupancy_grid", "ray_box", "spherical_harmonics"]


@pytest.mark.parametrize("prefix", ["near_far_sph", "morton_packbits_dilation", "density_update_", "torso_update", "sh_freq"])
def test_no_array_is_left_unread(shared, prefix):
    paths = sorted((shared / "parity" / "kernels").glob(f"{prefix}*.npz"))
    assert paths
    for path in paths:
        assert not unread_arrays(path, OPS), path.name
