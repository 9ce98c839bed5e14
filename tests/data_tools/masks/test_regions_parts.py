import numpy as np

from data_tools.landmarks68 import CHIN, FACE_OVAL, FOREHEAD
from data_tools.masks import PARTS, color_parts, head_share, label_parts

SIZE = 128


def person():
    """A drawn person: frame, landmarks, head and torso masks."""
    angle = np.linspace(-np.pi / 2, 1.5 * np.pi, len(FACE_OVAL), endpoint=False)
    landmarks = np.full((478, 2), 64.0)
    landmarks[FACE_OVAL] = np.stack([64 + 18 * np.cos(angle), 50 + 24 * np.sin(angle)], 1)
    landmarks[FOREHEAD], landmarks[CHIN] = (64, 26), (64, 74)
    y, x = np.mgrid[:SIZE, :SIZE]
    face = ((x - 64) / 18) ** 2 + ((y - 50) / 24) ** 2 < 1
    hair = (((x - 64) / 26) ** 2 + ((y - 42) / 32) ** 2 < 1) & ~face & (y < 60)
    neck = (abs(x - 64) < 10) & (y >= 70) & (y < 92) & ~face
    clothes = (abs(x - 64) < 50) & (y >= 92)
    frame = np.full((SIZE, SIZE, 3), 200, np.uint8)
    for mask, color in ((hair, (40, 30, 20)), (face, (220, 170, 140)), (neck, (200, 150, 120)), (clothes, (30, 60, 160))):
        frame[mask] = color
    return frame, landmarks, (face | hair).astype(np.float32), (neck | clothes).astype(np.float32), (face, hair, neck, clothes)


def test_geometry_and_color_name_the_parts():
    frame, landmarks, head, torso, truth = person()
    labels = label_parts(frame, landmarks, head, torso)
    for number, mask in enumerate(truth, start=1):
        found = labels == number
        assert (found & mask).sum() / (found | mask).sum() > 0.7, PARTS[number]
    assert (labels[:, :5] == 0).all()
    assert color_parts(frame, labels).shape == frame.shape


def test_classes_of_a_segmenter_are_taken_where_there_are_some():
    frame, landmarks, head, torso, (face, hair, neck, clothes) = person()
    layers = np.stack([face | hair | neck | clothes, hair, neck, clothes]).astype(np.float32)
    labels = label_parts(frame, landmarks, head, torso, layers)
    for number, mask in enumerate((face, hair, neck, clothes), start=1):
        np.testing.assert_array_equal(labels == number, mask)
    share = head_share(layers)
    assert share[50, 64] > 0.95 and share[110, 64] < 0.05
