"""Subject.load accepts exactly what docs/file-formats.md describes, and says which field is wrong otherwise."""

import contextlib
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from data_tools.errors import InputError
from data_tools.io import write_json
from geneface_jax.data.subject import Subject
from tests.synthetic_subject import write_subject


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_subject(tmp_path_factory.mktemp("subject") / "dataset")


@pytest.fixture
def dataset(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "dataset")


def change_arrays(folder, **changes):
    with np.load(folder / "arrays.npz") as archive:
        arrays = {**archive, **changes}
    np.savez(folder / "arrays.npz", **{name: value for name, value in arrays.items() if value is not None})


def change_meta(folder, **changes):
    meta = {**json.loads((folder / "meta.json").read_text()), **changes}
    (folder / "meta.json").write_text(json.dumps({key: value for key, value in meta.items() if value is not None}))


def test_loads_from_the_dataset_or_the_subject_folder(whole):
    for folder in (whole, whole.parent):
        subject = Subject.load(folder)
        assert subject.folder == whole
        assert subject.motion.shape == (subject.n_frames, 68, 3) and subject.audio_features.shape[0] == 2 * subject.n_frames
        assert subject.background.shape == (subject.size, subject.size, 3) and subject.background.dtype == np.uint8
        assert subject.intrinsics.cx == subject.size / 2


def test_the_split_covers_the_video_once(whole):
    subject = Subject.load(whole)
    assert [*subject.train, *subject.heldout] == list(range(subject.n_frames))
    assert len(subject.train) == subject.n_frames * 10 // 11


def test_pictures_come_in_the_order_asked_for(whole):
    subject = Subject.load(whole)
    order = [7, 3, 3, subject.n_frames - 1]
    for kind, read in (("frames", subject.frames), ("head", subject.head_masks), ("torso", subject.torso)):
        pictures = read(order)
        suffix = "jpg" if kind == "frames" else "png"
        for picture, number in zip(pictures, order, strict=True):
            np.testing.assert_array_equal(picture, np.asarray(Image.open(whole / kind / f"{number:06d}.{suffix}")))
    assert subject.frames([]).shape == (0, subject.size, subject.size, 3)
    with pytest.raises(IndexError):
        subject.frames([subject.n_frames])


def test_threads_do_not_change_the_result(whole):
    subject = Subject.load(whole)
    np.testing.assert_array_equal(subject.load_all("frames", threads=1), subject.load_all("frames", threads=5))


def test_a_light_copy_serves_arrays_and_refuses_pictures(dataset):
    for kind in ("frames", "head", "torso"):
        shutil.rmtree(dataset / kind)
    change_arrays(dataset, landmarks_mediapipe=None)
    subject = Subject.load(dataset)
    assert subject.is_light and subject.landmarks_mediapipe is None
    with pytest.raises(InputError, match="light copy without frames/"):
        subject.frames([0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"motion": None}, '"motion" is missing'),
        ({"f0": np.zeros(44, np.float64)}, '"f0".*float64'),
        ({"cameras": np.zeros((21, 4, 4), np.float32)}, r'"cameras".*\[21, 4, 4\], not float32 \[22, 4, 4\]'),
        ({"eye_openness": np.full(22, np.nan, np.float32)}, '"eye_openness".*not finite'),
        ({"lip_box": np.full((22, 4), 33, np.int32)}, '"lip_box".*outside of the picture'),
    ],
)
def test_a_wrong_array_is_named(dataset, changes, words):
    change_arrays(dataset, **changes)
    with pytest.raises(InputError, match=words):
        Subject.load(dataset)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": None}, '"size"'),
        ({"n_frames": True}, '"n_frames"'),
        ({"n_train": 23}, '"n_train".*23'),
        ({"intrinsics": {"fx": 1.0}}, "fy, cx, cy"),
        ({"format": "something else"}, "does not describe a subject"),
        ({"format_version": 2}, "format_version 2"),
        ({"size": 64}, "background.png is 32x32"),
        ({"size": 10**9}, '"size".*from 2 to 8192'),
        ({"n_frames": 10**12}, '"n_frames"'),
        ({"fps": 0}, '"fps"'),
        ({"fps": float("nan")}, '"fps"'),
        ({"intrinsics": {"fx": 1e9, "fy": 300.0, "cx": 16.0, "cy": 16.0}}, "fx 1e\\+09, which no camera"),
        ({"intrinsics": {"fx": 300.0, "fy": 300.0, "cx": 16.0, "cy": -1600.0}}, "cy -1600, which no camera"),
        ({"name": ["anna"]}, '"name".*a list'),
    ],
)
def test_a_wrong_field_is_named(dataset, changes, words):
    change_meta(dataset, **changes)
    with pytest.raises(InputError, match=words):
        Subject.load(dataset)


def test_pickled_arrays_are_refused_unread(dataset):
    change_arrays(dataset, motion=np.array([{"never": "unpickled"}], dtype=object))
    with pytest.raises(InputError, match="not a plain array file"):
        Subject.load(dataset)


def test_damaged_files_are_named(dataset, tmp_path):
    subject = Subject.load(dataset)
    (dataset / "frames" / "000004.jpg").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="000004.jpg"):
        subject.frames([4])
    (dataset / "arrays.npz").write_bytes(b"PK not a zip")
    with pytest.raises(InputError, match="arrays.npz"):
        Subject.load(dataset)
    with pytest.raises(InputError, match="no dataset in"):
        Subject.load(tmp_path / "nowhere")


def test_a_checksum_finds_a_change_that_is_plausible(dataset):
    """A focal length of 290 instead of 294 pixels blurs a person, and no range finds it."""
    meta = json.loads((dataset / "meta.json").read_text())
    path = write_json(dataset / "meta.json", meta, checksum=True)
    assert Subject.load(dataset).meta == meta
    text = path.read_text()
    path.write_text(text.replace(repr(meta["intrinsics"]["fx"]), "290.0", 1))
    assert path.read_text() != text
    with pytest.raises(InputError, match="meta.json doesn't hold what was written"):
        Subject.load(dataset)


def test_the_size_of_an_array_and_of_a_picture_is_known_before_memory_is_taken(dataset):
    shape = (40_000_000, 68, 3)
    with zipfile.ZipFile(dataset / "arrays.npz", "a") as archive, archive.open("extra.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|b1", "fortran_order": False, "shape": shape})
    Subject.load(dataset)  # what is not asked for is not read
    Image.new("L", (12_000, 12_000)).save(dataset / "background.png")
    with pytest.raises(InputError, match="background.png is 12000x12000"):
        Subject.load(dataset)


@pytest.mark.parametrize("picture", ["background.png", "head/000003.png", "torso/000003.png"])
def test_a_flipped_bit_of_a_png_is_told(dataset, picture):
    """Also one that decodes to another picture without any complaint."""
    path = dataset / picture
    whole = path.read_bytes()

    def read():
        subject = Subject.load(dataset)
        return subject.background if picture.startswith("background") else subject.load_all(picture[: -len("/000003.png")], [3])

    expected, silent = read(), 0
    for bit in range(8 * 41, 8 * (len(whole) - 16), 1 if picture == "background.png" else 13):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(InputError, match=f"{path.name} is missing or damaged"):
            read()
        with contextlib.suppress(Exception):
            silent += not np.array_equal(np.asarray(Image.open(path).convert("RGB")), expected)
    assert silent or picture != "background.png", "there must be some for this test to mean anything"
