"""A person's data of both originals becomes a dataset that our own loader takes, with the numbers it had."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from PIL import Image

from data_tools.errors import InputError
from geneface_jax.cli.main import main
from geneface_jax.convert.dataset import (
    expression_basis,
    find_dataset,
    find_processed_folder,
    fit_mean_face,
    import_dataset,
    read_trainval,
    write_dataset,
)
from geneface_jax.data.subject import Subject
from tests.geneface_jax.convert.person_files import save, write_person

FRAMES = {False: 22, True: 88}


@pytest.fixture(scope="module", params=[False, True], ids=["GeneFace", "GeneFace++"])
def person(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("original")
    return request.param, write_person(root, plus=request.param, frames=FRAMES[request.param])


@pytest.fixture(scope="module")
def subject(person, tmp_path_factory):
    out = tmp_path_factory.mktemp("ours") / "dataset"
    notes = write_dataset(import_dataset(person[1].npy), out)
    assert notes == []
    return Subject.load(out)


def test_numbers_are_what_they_were(person, subject):
    plus, truth = person
    assert (subject.n_frames, subject.n_train, subject.size) == (FRAMES[plus], truth.n_train, 32)
    assert (subject.face_model, subject.audio_model, subject.name) == ("bfm", "hubert", "May")
    np.testing.assert_allclose(list(subject.intrinsics), truth.intrinsics, rtol=1e-6)
    np.testing.assert_allclose(subject.cameras, truth.cameras, atol=1e-6)
    np.testing.assert_array_equal(subject.motion, truth.motion)
    np.testing.assert_allclose(subject.motion_mean, truth.motion.mean(0), atol=1e-6)
    np.testing.assert_allclose(subject.motion_std, truth.motion.std(0, ddof=int(plus)), atol=1e-6)
    np.testing.assert_array_equal(subject.background, truth.background)
    hubert = truth.values["hubert"]  # one frame short: the last one again
    np.testing.assert_array_equal(subject.audio_features, np.concatenate([hubert, hubert[-1:]]))
    assert len(subject.f0) == 2 * FRAMES[plus] and (subject.f0 == 120).all()
    # x, y, width, height in one, x0, x1, y0, y1 in the other: the same place in the fixture.
    np.testing.assert_array_equal(subject.face_box[0], [8, 4, 24, 12] if not plus else [8, 4, 24, 16])
    if plus:
        np.testing.assert_array_equal(subject.lip_box[0], [10, 16, 21, 24])
        np.testing.assert_array_equal(subject.eye_openness, truth.values["eye_area_percent"])


def test_the_face_model_is_not_needed(person, subject):
    """The mean face and, for GeneFace++, the landmarks of any coefficients come from the data."""
    plus, truth = person
    np.testing.assert_allclose(subject.mean_face, truth.mean_face, atol=0.01)
    np.testing.assert_allclose(subject.landmarks_2d, truth.landmarks_2d, atol=1e-3)
    if plus:
        np.testing.assert_allclose(subject.expression_basis, truth.basis, atol=1e-4)
        np.testing.assert_allclose(subject.expression_offset, truth.offset, atol=1e-4)
    else:
        assert subject.expression_basis is None


def test_pictures_come_along(person, subject):
    original = np.asarray(Image.open(find_processed_folder(read_trainval(person[1].npy)).pictures("frames")[3]))
    np.testing.assert_array_equal(subject.frames([3])[0], original)
    mask, torso = subject.head_masks([0])[0], subject.torso([0])[0]
    assert mask[16, 16] == 255 and mask[0, 0] == 0 and mask[28, 16] == 0
    assert torso[28, 16].tolist() == [30, 40, 160, 255] and torso[0, 0, 3] == 0
    assert (subject.folder / "audio.wav").is_file()


def test_missing_pictures_are_named_and_nothing_is_left(tmp_path, capsys):
    truth = write_person(tmp_path / "original", plus=False)
    for number in (5, 7):
        (truth.processed / "gt_imgs" / f"{number}.jpg").unlink()
    assert main(["import-torch", str(truth.npy), str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert "2 pictures are missing" in message and "gt_imgs/5.jpg" in message and "--frames" in message
    Image.new("RGB", (16, 16)).save(truth.processed / "gt_imgs" / "5.jpg")
    (truth.processed / "gt_imgs" / "7.jpg").write_bytes(b"no picture")
    assert main(["import-torch", str(truth.processed), str(tmp_path / "out")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_without_pictures_it_is_a_light_dataset(tmp_path, capsys):
    truth = write_person(tmp_path / "original", plus=True, frames=22)
    alone = tmp_path / "alone" / "Obama" / "trainval_dataset.npy"
    alone.parent.mkdir(parents=True)
    truth.npy.rename(alone)
    assert main(["import-torch", str(alone), str(tmp_path / "light")]) == 0
    printed = capsys.readouterr().out
    assert "light dataset" in printed and "22 frames leave" in printed and printed.splitlines()[-1] == str(tmp_path / "light")
    assert Subject.load(tmp_path / "light").is_light
    assert main(["import-torch", str(alone), str(tmp_path / "full"), "--frames", str(truth.processed)]) == 0
    assert not Subject.load(tmp_path / "full").is_light
    with pytest.raises(InputError, match="no trainval_dataset.npy"):
        find_dataset(truth.processed)
    with pytest.raises(InputError, match="not a processed folder"):
        find_processed_folder(read_trainval(alone), tmp_path)


def _forget(values, name):
    del values[name]


def _spoil(values):
    values["val_samples"][0]["c2w"][1, 1] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: _forget(v, "hubert"), "has no hubert"),
        (lambda v: _forget(v, "train_samples"), "not a dataset of GeneFace"),
        (lambda v: v["train_samples"].pop(4), "frame 4 of 21 has the number 5"),
        (lambda v: _forget(v["train_samples"][2], "c2w"), "no c2w for frame 2"),
        (lambda v: v["train_samples"][1].update(idx=True), "frame 1 of 22 has the number True"),
        (lambda v: v["train_samples"][1].update(idx=10**5000), "frame 1 of 22 has the number a huge number"),
        (lambda v: v["train_samples"][3].update(c2w=np.zeros((4, 10**6))), r"c2w of frame 3 has the shape \[4, 1000000\]"),
        (lambda v: v.update(focal=10**400), "focal is not an array of numbers"),
        (lambda v: v.update(focal=1e-9), "not pixels of a camera"),
        (_spoil, "c2w is not finite for frame 20"),
        (lambda v: v.update(hubert=v["hubert"][:18]), "25 frames per second"),
        (lambda v: v.update(bc_img=v["bc_img"][:20]), "only square"),
        (lambda v: v.update(focal="much"), "focal is not an array of numbers"),
        (lambda v: v["val_samples"][0].update(idexp_lm3d=np.zeros((67, 3))), "idexp_lm3d of frame 20 has the shape"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(tmp_path, change, message):
    truth = write_person(tmp_path / "original", plus=False)
    values = copy.deepcopy(truth.values)
    change(values)
    save(truth.npy, values)
    with pytest.raises(InputError, match=message) as caught:
        import_dataset(truth.npy)
    assert "\n" not in str(caught.value)


def test_a_basis_that_frames_do_not_show_is_zero_there():
    rng = np.random.default_rng(0)
    expression = rng.normal(size=(50, 4))
    expression[:, 2] = 0.7
    truth = rng.normal(size=(4, 68, 3))
    found = expression_basis(expression, np.einsum("te,epc->tpc", expression, truth))
    np.testing.assert_allclose(found.basis[[0, 1, 3]], truth[[0, 1, 3]], atol=1e-5)
    np.testing.assert_allclose(found.basis[2], 0, atol=1e-6)
    np.testing.assert_allclose(found.offset, 0.7 * truth[2], atol=1e-5)
    assert found.residual < 1e-5
    noisy = expression_basis(expression[:, :2], np.einsum("te,epc->tpc", expression, truth))
    assert 0.1 < noisy.residual < 1.0


def test_a_face_seen_from_one_side_keeps_the_depth_of_the_prior():
    """One camera says nothing of depth."""
    prior = np.zeros((68, 3))
    cameras = np.tile(np.eye(4), (5, 1, 1))
    cameras[:, 2, 3] = 1.0
    center = dict.fromkeys(("fx", "fy"), 100.0) | dict.fromkeys(("cx", "cy"), 50.0)
    landmarks = np.tile([52.0, 49.0], (5, 68, 1))
    found = fit_mean_face(np.zeros((5, 68, 3)), landmarks, cameras, center, prior)
    np.testing.assert_allclose(found, np.tile([0.2, 0.1, 0.0], (68, 1)), atol=5e-3)
