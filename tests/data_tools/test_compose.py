"""The whole of compose: place, length, sound, and what does not belong together."""

import json

import cv2
import numpy as np
import pytest
from synthetic_video import ffmpeg

from data_tools.audio.sound import load_audio
from data_tools.compose import compose, looped_frames
from data_tools.encoder import EncoderOptions
from data_tools.errors import InputError
from data_tools.face.crop import CropRecord, load_record, record_path, save_record
from data_tools.video import read_video, write_video

WIDTH, HEIGHT, SIDE, N = 96, 64, 32, 20
FINE = EncoderOptions(crf=4, pix_fmt="yuv444p")


def numbered(count, width=WIDTH, height=HEIGHT):
    """Frames whose brightness is their number."""
    for i in range(count):
        yield np.full((height, width, 3), 20 + 10 * i, np.uint8)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.mp4"
    write_video(path, numbered(N), None, options=FINE)
    return path


@pytest.fixture
def face(tmp_path):
    """A red square of 50 frames with a tone."""
    path = tmp_path / "face.mp4"
    red = np.zeros((SIDE, SIDE, 3), np.uint8)
    red[..., 0] = 220
    write_video(path, [red] * 50, np.sin(np.arange(32000)).astype(np.float32) * 0.3, options=FINE)
    return path


def note(path, corners=((40.0, 20.0),), **changes):
    values = {"frames": N, **changes}
    save_record(record_path(path), CropRecord(WIDTH, HEIGHT, SIDE, np.array(corners, float), **values), {"file": "scene.mp4"})


def shown(frames):
    """The scene's frame number that each composed frame shows."""
    return [round((float(frame[5, 5].mean()) - 20) / 10) for frame in frames]


MIRRORED = [*range(N), *range(N - 2, 0, -1), *range(N)][:50]


@pytest.mark.parametrize(("fill", "expected"), [("mirror", MIRRORED), ("hold", [*range(N), *[N - 1] * 30])])
def test_length_and_sound_are_the_faces_and_the_scene_is_filled_up(scene, face, tmp_path, fill, expected):
    note(face)
    assert compose(face, scene, tmp_path / "out.mp4", fill=fill, options=FINE) == 50
    frames = list(read_video(tmp_path / "out.mp4"))
    assert frames[0].shape == (HEIGHT, WIDTH, 3) and shown(frames) == expected
    assert abs(len(load_audio(tmp_path / "out.mp4")) / 16000 - 2.0) < 0.03
    for frame in (frames[0], frames[-1]):
        inside, outside = frame[26:46, 46:66], frame[26:46, :36]
        assert inside[..., 0].min() > 200 and inside[..., 1].max() < 20
        assert np.ptp(outside, axis=-1).max() < 8


def test_a_crop_that_moves_is_followed_also_backwards(scene, face, tmp_path):
    note(face, [(2.0 * i, 10.0) for i in range(N)])
    compose(face, scene, tmp_path / "out.mp4", feather=0.0, options=FINE)
    for number, frame in enumerate(read_video(tmp_path / "out.mp4")):
        red = (frame[26, :, 0].astype(int) - frame[26, :, 1]) > 100
        assert abs(np.flatnonzero(red).mean() - (2.0 * MIRRORED[number] + SIDE / 2 - 0.5)) < 1.0


def test_a_subjects_crop_starts_where_its_trim_does_and_loops_over_its_training_frames(scene, face, tmp_path):
    crop = {"x": 8, "y": 4, "size": SIDE, "source_width": WIDTH, "source_height": HEIGHT, "trim": [0.2, 0.8]}
    meta = {"format": "geneface_jax.subject", "crop": crop, "n_frames": 15, "n_train": 10}
    (tmp_path / "me" / "dataset").mkdir(parents=True)
    (tmp_path / "me" / "dataset" / "meta.json").write_text(json.dumps(meta))
    compose(face, scene, tmp_path / "out.mp4", crop=tmp_path / "me", options=FINE)
    frames = list(read_video(tmp_path / "out.mp4"))
    one_way = [*range(5, 15), *range(13, 5, -1)]
    assert shown(np.array(frames)[:, ::-1, ::-1]) == (one_way * 3)[:50]


def test_frames_are_played_back_in_pieces(scene, monkeypatch):
    monkeypatch.setattr("data_tools.compose.CHUNK_BYTES", 3 * 48 * 32 * 6)
    film = looped_frames(scene, (48, 32), 25, 0.0, N, "mirror")
    found = [next(film) for _ in range(3 * N)]
    expected = [*MIRRORED, *range(12, N), *range(N - 2, 0, -1)][: 3 * N]
    assert [index for index, _ in found] == expected
    assert shown([cv2.resize(picture, (WIDTH, HEIGHT)) for _, picture in found]) == expected


def test_what_does_not_belong_together_is_refused(scene, face, tmp_path):
    out = tmp_path / "out.mp4"
    with pytest.raises(InputError, match="holds no crop"):
        compose(face, scene, out)
    note(face)
    other = tmp_path / "other.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=160x120:r=25:d=1", other)
    with pytest.raises(InputError, match="160x120 pixels, but the crop was cut out of 96x64"):
        compose(face, other, out)
    note(other)
    with pytest.raises(InputError, match="crops are square"):
        compose(other, scene, out)
    note(face, start=3.0)
    with pytest.raises(InputError, match=r"begins at 3\.00 s"):
        compose(face, scene, out)
    for changes, words in (({"fill": "loop"}, "--fill is 'loop'"), ({"feather": 0.7}, "--feather is 0.7")):
        with pytest.raises(InputError, match=words):
            compose(face, scene, out, **changes)
    with pytest.raises(InputError, match=r"\.mp4"):
        compose(face, scene, tmp_path / "out.webm")
    assert not out.exists()


def test_a_note_survives_the_file_and_a_damaged_one_is_refused(tmp_path):
    record = CropRecord(640, 360, 200, np.array([[10.125, 20.5], [11.0, 21.0]]), 25.0, 1.5, 2)
    save_record(tmp_path / "a.mp4.crop.json", record, {})
    found = load_record(tmp_path / "a.mp4")
    np.testing.assert_array_equal(found.corners, record.corners)
    assert (found.side, found.fps, found.start, found.frames, found.loop, found.moves) == (200, 25.0, 1.5, 2, None, True)
    for text in ("", "[]", '{"format": "geneface_jax.crop", "format_version": 9}', '{"format": "geneface_jax.subject"}'):
        (tmp_path / "b.crop.json").write_text(text)
        with pytest.raises(InputError, match="is not a crop record|isn't a JSON file"):
            load_record(tmp_path / "b.crop.json")
    save_record(tmp_path / "c.crop.json", CropRecord(100, 100, 80, np.array([[30.0, 0.0]])), {})
    with pytest.raises(InputError, match="does not lie inside"):
        load_record(tmp_path / "c.crop.json")
    value = json.loads((tmp_path / "a.mp4.crop.json").read_text())
    del value["checksum"]  # as older versions wrote it
    (tmp_path / "d.crop.json").write_text(json.dumps(value))
    assert load_record(tmp_path / "d.crop.json").side == 200
    wrong = {"size": 2.5, "fps": float("nan"), "start": -1, "frames": True, "source_width": "x", "corners": [[0, 10**400]]}
    for change in ({name: value} for name, value in wrong.items()):
        (tmp_path / "d.crop.json").write_text(json.dumps(value | change))
        with pytest.raises(InputError, match="d.crop.json"):
            load_record(tmp_path / "d.crop.json")
