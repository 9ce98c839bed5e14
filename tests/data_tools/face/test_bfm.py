"""The fit of a linear face model, on a random one: the Basel model itself may not be distributed."""

import numpy as np
import pytest
import scipy.io
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from data_tools.dataset.arrays import with_face_model
from data_tools.dataset.settings import Settings
from data_tools.errors import InputError
from data_tools.face.bfm import CAMERA_DISTANCE, INDEX_FILE, MODEL_FILE, FitSettings, fit_face_model, load_face_model
from data_tools.face.pose import intrinsics, project
from data_tools.landmarks68 import LANDMARKS_68, canonical_face

SIZE, N_FRAMES = 512, 24
N_VERTICES = 600


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of the canonical face with random smooth directions, stored as the Basel model's files are."""
    rng = np.random.default_rng(0)
    vertices = np.concatenate([canonical_face()["vertices"] / 10.0, rng.normal(size=(N_VERTICES - 468, 3)) * 0.5])
    # Directions that vary slowly over the face: sums of waves of its coordinates.
    waves = rng.normal(size=(3, 40)) * 1.5
    smooth = np.concatenate([np.sin(vertices @ waves), np.cos(vertices @ waves)], 1)
    bases = {name: 0.02 * np.einsum("vw,wcn->vcn", smooth, rng.normal(size=(80, 3, n)) / 9.0) for name, n in (("idBase", 8), ("exBase", 6))}
    folder = tmp_path_factory.mktemp("bfm")
    arrays = {"meanshape": vertices.reshape(1, -1), **{name: base.reshape(3 * N_VERTICES, -1) for name, base in bases.items()}}
    scipy.io.savemat(folder / MODEL_FILE, arrays)
    index = np.arange(468)
    index[[93, 127, 454]] = -999
    np.save(folder / INDEX_FILE, index)
    return folder


@pytest.fixture(scope="module")
def clip(folder):
    """A person's movement in that model, and where its points are seen."""
    model = load_face_model(folder)
    rng = np.random.default_rng(1)
    identity = rng.normal(size=8) * 0.7
    expression = gaussian_filter1d(rng.normal(size=(N_FRAMES, 6)), 3.0, axis=0) * 2.0
    rotation = Rotation.from_euler("xyz", gaussian_filter1d(rng.normal(size=(N_FRAMES, 3)), 6.0, axis=0) * 0.3).as_matrix()
    translation = gaussian_filter1d(rng.normal(size=(N_FRAMES, 3)), 6.0, axis=0) * 0.3 - [0.0, 0.0, CAMERA_DISTANCE]
    points = model.mean + model.identity @ identity + np.einsum("pce,te->tpc", model.expression, expression)
    pixels = project(points, rotation, translation, SIZE)
    landmarks = np.zeros((N_FRAMES, 478, 3))
    landmarks[:, :468, :2] = pixels
    return model, landmarks, expression, rotation, translation


@pytest.fixture(scope="module")
def fit(clip):
    return fit_face_model(clip[1], SIZE, clip[0])


def test_the_model_is_read_at_mediapipes_points(folder):
    model = load_face_model(folder)
    assert model.mean.shape == (468, 3) and model.identity.shape == (468, 3, 8) and model.expression.shape == (468, 3, 6)
    assert not model.matched[[93, 127, 454]].any() and model.matched.sum() == 465
    np.testing.assert_array_equal(model.mean[93], model.mean[0])


def test_the_fit_lies_on_the_landmarks(fit):
    assert fit.error.shape == (N_FRAMES,)
    assert np.median(fit.error) < 1.5 and fit.error.max() < 4.0


def test_poses_and_expressions_are_found(clip, fit):
    _, _, expression, rotation, _ = clip
    found = Rotation.from_euler("xyz", fit.euler).as_matrix()
    turn = np.degrees(Rotation.from_matrix(found @ rotation.transpose(0, 2, 1)).magnitude())
    assert np.median(turn) < 2.0
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(fit.expression.T, expression.T, strict=True)]
    assert np.median(correlation) > 0.8


def test_a_long_clip_in_blocks_equals_one_fit(clip, fit):
    blocks = fit_face_model(clip[1], SIZE, clip[0], FitSettings(block=12, overlap=4, pose_steps=100, joint_steps=200))
    assert len(blocks.expression) == N_FRAMES
    assert np.median(blocks.error) < 2.0


def test_the_arrays_of_a_dataset_agree_with_the_landmarks(clip, folder, fit):
    landmarks = clip[1].astype(np.float32)
    settings = Settings(folder / "v.mp4", "", None, SIZE, "bfm", folder)
    arrays = with_face_model({"landmarks_mediapipe": landmarks}, settings)
    points = (arrays["motion"] / 10.0 + arrays["mean_face"]) / 10.0
    to_camera = np.linalg.inv(arrays["cameras"].astype(np.float64))
    seen = np.einsum("tij,tpj->tpi", to_camera[:, :3, :3], points) + to_camera[:, None, :3, 3]
    k = intrinsics(SIZE)
    u, v = k["cx"] - k["fx"] * seen[..., 0] / seen[..., 2], k["cy"] + k["fy"] * seen[..., 1] / seen[..., 2]
    distance = np.linalg.norm(np.stack([u, v], -1) - landmarks[:, LANDMARKS_68, :2], axis=-1)
    assert np.median(distance) < 1.5
    basis, offset = arrays["expression_basis"], arrays["expression_offset"]
    np.testing.assert_allclose(np.einsum("te,epc->tpc", fit.expression, basis) + offset, arrays["motion"], atol=1e-3)


def test_other_files_are_refused_with_a_sentence(tmp_path, folder):
    with pytest.raises(InputError, match=MODEL_FILE):
        load_face_model(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(b"no mat file")
    (tmp_path / INDEX_FILE).write_bytes((folder / INDEX_FILE).read_bytes())
    with pytest.raises(InputError, match="no Basel face model"):
        load_face_model(tmp_path)
