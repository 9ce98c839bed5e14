from pathlib import Path

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.face.track import SELFIE_SEGMENTER
from data_tools.landmarks68 import CHIN, FACE_OVAL, FOREHEAD
from data_tools.masks.regions import PARTS, color_parts, head_share, label_parts
from data_tools.masks.segmenters import SegmenterChoice, layers_of, open_segmenter

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


def test_six_classes_become_four_layers():
    classes = np.random.default_rng(0).dirichlet(np.ones(6), size=(4, 4)).transpose(2, 0, 1)
    layers = layers_of(classes)
    np.testing.assert_allclose(layers[0], classes[1:].sum(0), atol=1e-6)
    assert (layers[0] + 1e-6 >= layers[1:].sum(0)).all()


def test_a_file_that_is_no_multiclass_segmenter_is_refused(mediapipe, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        SegmenterChoice.from_file(tmp_path / "none.tflite")
    (tmp_path / "wrong.tflite").write_bytes(b"something else")
    with pytest.raises(InputError, match="selfie_multiclass"):
        open_segmenter(SegmenterChoice.from_file(tmp_path / "wrong.tflite"))
    with open_segmenter(SegmenterChoice.from_file(SELFIE_SEGMENTER)) as other, pytest.raises(InputError, match="classes"):
        other(np.zeros((256, 256, 3), np.uint8))


def test_without_a_file_the_built_in_one_is_used(mediapipe):
    choice = SegmenterChoice.from_file(None)
    with open_segmenter(choice) as segmenter:
        assert segmenter(np.zeros((256, 256, 3), np.uint8)).shape == (choice.n_layers, 256, 256)
    assert SegmenterChoice("multiclass", Path("x")).n_layers == 4
