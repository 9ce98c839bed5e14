from pathlib import Path

import numpy as np
import pytest

from data_tools.errors import InputError
from data_tools.face.track import SELFIE_SEGMENTER
from data_tools.masks import SegmenterChoice, layers_of, open_segmenter, refine, smooth_in_time


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
