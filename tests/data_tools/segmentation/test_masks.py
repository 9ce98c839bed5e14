import numpy as np
import pytest

from data_tools.landmarks68 import CHIN, FOREHEAD, JAW_LINE
from data_tools.masks.regions import attached, detached, head_region
from data_tools.masks.segmenters import refine, smooth_in_time


def frontal_face(x=128.0, y=110.0, half_width=40.0, height=110.0):
    """[478, 2] points with an elliptic jaw."""
    points = np.tile([x, y], (478, 1))
    points[FOREHEAD], points[CHIN] = (x, y - height / 2), (x, y + height / 2)
    angle = np.linspace(np.pi, 0.0, len(JAW_LINE))
    points[JAW_LINE] = np.stack([x + half_width * np.cos(angle), y + height / 2 * np.sin(angle)], 1)
    return points


def test_above_the_jaw_is_head_and_below_is_not():
    region = head_region(frontal_face())
    assert region[60, 128] == 1.0 and region[150, 128] == 1.0, "hair and mouth"
    assert region[180, 128] == 0.0 and region[160, 95] == 0.0, "throat, and neck beside the chin"
    assert region[100, 70] == 1.0, "hair beside the face"
    assert region[240, 20] == 0.0, "shoulder"


@pytest.mark.parametrize("degrees", [-20, 20])
def test_the_border_turns_with_the_head(degrees):
    face = frontal_face(y=128.0)
    a = np.radians(degrees)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    turned = head_region((face - 128.0) @ turn.T + 128.0)
    for probe in ((128.0, 60.0), (128.0, 205.0), (128.0, 170.0)):
        x, y = (np.array(probe) - 128.0) @ turn.T + 128.0
        assert turned[round(y), round(x)] == pytest.approx(head_region(face)[round(probe[1]), round(probe[0])], abs=0.1)


def test_only_what_hangs_together_with_the_face_stays():
    mask = np.zeros((64, 64), np.float32)
    mask[10:30, 10:30] = 1.0
    mask[40:50, 40:50] = 1.0
    apart = detached(mask, (20.0, 20.0), reach=2)
    assert apart[38:52, 38:52].all() and not apart[:37].any()
    assert attached(mask > 0.5, (20.0, 20.0)).sum() == 400
    assert attached(mask > 0.5, (0.0, 0.0)).sum() == 400, "a seed outside takes the largest part"


def test_time_smoothing_keeps_a_still_mask_and_softens_a_flicker():
    clip = np.zeros((3, 4, 4), np.uint8)
    clip[:, 0] = 255
    clip[1, 1] = 255
    middle = smooth_in_time(clip, 1)
    assert (middle[0] == 1.0).all() and (middle[1] == 0.5).all() and (middle[2] == 0.0).all()
    assert smooth_in_time(clip, 0).dtype == np.float32


def test_refined_masks_follow_the_edge_in_the_picture():
    picture = np.zeros((512, 512, 3), np.uint8)
    picture[:, 250:] = 200
    coarse = np.zeros((256, 256), np.float32)
    coarse[:, 128:] = 1.0  # six pixels off the true edge
    mask = refine(coarse, picture)
    assert mask[:, 280:].min() == 1.0 and mask[:, :230].max() == 0.0
    assert abs((mask[256] > 0.5).argmax() - 250) <= 4, "nearer to the true edge"
