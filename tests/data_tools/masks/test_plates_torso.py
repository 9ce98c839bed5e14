import numpy as np

from data_tools.masks import CLOTH_LENGTH, NECK_LENGTH, torso_image

SIZE, JAW = 256, 150
NECK = (98.0, 158.0)


def scene():
    """A head down to row JAW over a neck and shoulders that end at the sides; skin is (200, 150, 120), the head is pure green."""
    frame = np.full((SIZE, SIZE, 3), 30, np.uint8)
    person = np.zeros((SIZE, SIZE), np.float32)
    person[40:JAW, 88:168] = 1.0
    person[JAW:190, 98:158] = 1.0
    person[190:, 40:216] = 1.0
    above = np.zeros((SIZE, SIZE), np.float32)
    above[:JAW] = 1.0
    frame[person > 0] = (200, 150, 120)
    frame[(person > 0) & (above > 0)] = (0, 255, 0)
    return frame, person, above


def test_the_neck_is_painted_up_and_nothing_of_the_head_is_left():
    rgba = torso_image(*scene(), NECK)
    column = rgba[:, 128]
    painted = np.flatnonzero(column[:, 3] == 255)
    assert abs((JAW - painted.min()) - NECK_LENGTH * SIZE) <= 3
    assert (np.diff(painted) == 1).all(), "no hole between neck and paint"
    seen = rgba[rgba[..., 3] > 0].astype(int)
    assert (seen[:, 0] >= seen[:, 1]).all(), "no green of the head"


def test_the_torso_itself_is_untouched():
    frame, person, above = scene()
    rgba = torso_image(frame, person, above, NECK)
    np.testing.assert_array_equal(rgba[160:, :, :3][person[160:] == 1], frame[160:][person[160:] == 1])
    assert (rgba[160:, :, 3] == 255 * person[160:]).all()


def test_paint_gets_darker_upwards_without_a_seam():
    red = torso_image(*scene(), NECK)[JAW - 20 : JAW + 10, 128, 0].astype(int)
    steps = np.diff(red)
    assert (steps >= 0).all() and steps.max() <= 10


def test_cloth_beside_the_neck_is_painted_less():
    rgba = torso_image(*scene(), (118.0, 138.0))
    rows = [JAW - np.flatnonzero(rgba[:, x, 3] == 255).min() for x in (128, 102)]
    assert rows[0] > NECK_LENGTH * SIZE - 4
    assert rows[1] < CLOTH_LENGTH * SIZE + 4


def test_a_head_without_a_torso_below_gives_an_empty_image():
    frame, person, above = scene()
    person[JAW:] = 0.0
    rgba = torso_image(frame, person, above, NECK)
    assert not rgba.any()
