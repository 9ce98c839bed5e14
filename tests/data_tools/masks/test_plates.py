import numpy as np

from data_tools.masks import BackgroundPlate


def test_a_person_who_walks_through_leaves_a_clean_background():
    rng = np.random.default_rng(0)
    background = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
    plate = BackgroundPlate(64)
    for x in (5, 25, 45):
        frame, person = background.copy(), np.zeros((64, 64), np.float32)
        frame[20:, x : x + 10], person[20:, x : x + 10] = 255, 1.0
        plate.add(frame, person)
    np.testing.assert_array_equal(plate.finish(), background)


def test_what_was_never_seen_is_filled_from_around():
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[:, :32], frame[:, 32:] = (200, 40, 10), (10, 40, 200)
    person = np.zeros((64, 64), np.float32)
    person[20:44, 20:44] = 1.0
    with_person = frame.copy()
    with_person[person > 0] = (0, 255, 0)
    plate = BackgroundPlate(64)
    plate.add(with_person, person)
    filled = plate.finish()
    assert filled[person > 0][:, 1].max() <= 60, "nothing of the person is left"
    assert filled[32, 22, 0] > 150 and filled[32, 42, 2] > 150, "each side continues its own neighbourhood"
    np.testing.assert_array_equal(filled[:10], frame[:10])


def test_a_picture_without_anybody_is_the_background():
    frame = np.full((16, 16, 3), 77, np.uint8)
    plate = BackgroundPlate(16)
    plate.add(frame, np.zeros((16, 16), np.float32))
    np.testing.assert_array_equal(plate.finish(), frame)
