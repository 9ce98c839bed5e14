import numpy as np
import pytest

from data_tools.face.crop import HEAD_FRACTION, choose_crop, head_extent
from tests.data_tools.face.oval_face import face


def test_a_well_framed_square_keeps_its_frame():
    box, fraction = choose_crop(face(height=0.45)[None] * 512, 512, 512)
    assert box == (0, 0, 512) or (box.x, box.y, box.size) == (0, 0, 512)
    assert fraction == pytest.approx(0.45 * 1.32, abs=0.01)


@pytest.mark.parametrize(("width", "height", "x", "y"), [(1080, 1920, 0.5, 0.2), (1920, 1080, 0.9, 0.4), (1280, 720, 0.05, 0.1)])
def test_crops_lie_inside_and_hold_the_head(width, height, x, y):
    side = min(width, height)
    faces = face(x=x * width / side, y=y * height / side, height=0.3)[None] * side
    box, fraction = choose_crop(faces, width, height)
    assert 0 <= box.x <= width - box.size and 0 <= box.y <= height - box.size
    left, top, right, bottom = np.clip(head_extent(faces)[0], 0, [width, height] * 2)
    assert box.x <= left + 1 and right - 1 <= box.x + box.size
    assert box.y <= top + 1 and bottom - 1 <= box.y + box.size
    assert fraction == pytest.approx(HEAD_FRACTION, abs=0.03)


def test_a_head_that_moves_gets_a_larger_square():
    still, moving = (np.stack([face(0.5 + s * t, height=0.2) * 1000 for t in np.linspace(-1, 1, 50)]) for s in (0.0, 0.3))
    assert choose_crop(moving, 1000, 1000)[0].size > choose_crop(still, 1000, 1000)[0].size
