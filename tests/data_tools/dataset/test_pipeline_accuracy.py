"""The figures that docs/data-tools.md promises, on a short clip of the avatar, where the truth is known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from scripts.bench.prepare import measure_accuracy, pose_errors


def test_a_constant_turn_of_the_world_is_no_pose_error():
    rng = np.random.default_rng(0)
    true = Rotation.from_rotvec(rng.normal(size=(50, 3)) * 0.2).as_matrix()
    turned = Rotation.from_rotvec([0.3, -0.1, 0.2]).as_matrix() @ true
    assert pose_errors(turned, true).max() < 1e-5
    shaken = turned @ Rotation.from_rotvec(np.radians([0.0, 2.0, 0.0]) * rng.choice([-1, 1], (50, 1))).as_matrix()
    assert np.median(pose_errors(shaken, true)) == pytest.approx(2.0, abs=0.2)


@pytest.mark.slow
def test_a_clip_of_the_avatar_at_512(mediapipe, tmp_path):
    from data_tools.avatar.clip import render_clip
    from data_tools.prepare import prepare

    clip = render_clip(tmp_path / "clip", size=512, seconds=8.0)
    dataset = prepare(clip / "video.mp4", tmp_path / "dataset", size=512, progress=False)
    found = measure_accuracy(dataset, clip)
    assert found["landmarks_px"] <= 3.0 and found["other_px"] <= 3.0
    # MediaPipe's jaw points slide along the jaw; what can be told is how far they lie from its line.
    assert found["jaw_to_outline_px"] <= 6.0
    assert found["landmarks_3d"] <= 0.04
    assert found["pose_median_deg"] <= 1.5 and found["pose_p95_deg"] <= 3.0
    assert found["head_iou"] >= 0.93
    assert found["background_psnr"] >= 35.0
