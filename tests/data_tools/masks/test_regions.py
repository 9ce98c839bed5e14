import numpy as np
import pytest

from data_tools.landmarks68 import CHIN, FOREHEAD, JAW_LINE
from data_tools.masks import connected_component, disconnected, head_region


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


def test_only_the_component_of_the_face_stays():
    mask = np.zeros((64, 64), np.float32)
    mask[10:30, 10:30] = 1.0
    mask[40:50, 40:50] = 1.0
    apart = disconnected(mask, (20.0, 20.0), margin=2)
    assert apart[38:52, 38:52].all() and not apart[:37].any()
    assert connected_component(mask > 0.5, (20.0, 20.0)).sum() == 400
    assert connected_component(mask > 0.5, (0.0, 0.0)).sum() == 400, "a seed outside takes the largest part"
