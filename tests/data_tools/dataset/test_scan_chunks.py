import numpy as np
import pytest
from synthetic_video import ffmpeg

from data_tools.dataset.settings import CHUNK_FRAMES, Chunk, FrameSource, chunk_frames, plan
from data_tools.errors import InputError
from data_tools.video import Box, frames


def test_chunks_cover_the_clip_once():
    chunks = plan(2 * CHUNK_FRAMES + 7)
    assert [len(chunk) for chunk in chunks] == [CHUNK_FRAMES, CHUNK_FRAMES, 7]
    assert [chunk.first for chunk in chunks] == [0, CHUNK_FRAMES, 2 * CHUNK_FRAMES]
    assert plan(0) == []


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """A picture that changes every frame, at several frame rates, with a long way between key frames."""

    def make(rate):
        path = tmp_path_factory.mktemp("moving") / "v.mp4"
        ffmpeg(
            "-f", "lavfi", "-i", f"testsrc2=size=64x64:rate={rate}:duration=4", "-c:v", "libx264", "-preset", "ultrafast", "-g", "60", path
        )
        return path

    return make


@pytest.mark.parametrize("rate", ["25", "30000/1001", "24000/1001", "60"])
@pytest.mark.parametrize("trim", [None, (0.52, 3.9)])
def test_a_chunk_decoded_alone_has_the_frames_of_the_whole(moving, rate, trim):
    path = moving(rate)
    whole = list(frames(path, (64, 64), trim=trim))
    source = FrameSource(path, Box(0, 0, 64), trim, 64)
    for first, end in ((0, 25), (25, 50), (50, 75)):
        got = list(chunk_frames(source, Chunk(first // 25, first, end)))
        assert [number for number, _ in got] == list(range(first, end))
        for number, frame in got:
            np.testing.assert_array_equal(frame, whole[number], err_msg=f"frame {number} at {rate}")


def test_preroll_comes_first_and_not_before_the_clip(moving):
    source = FrameSource(moving("25"), Box(0, 0, 64), None, 64)
    assert [n for n, _ in chunk_frames(source, Chunk(1, 50, 60), preroll=10)] == list(range(40, 60))
    assert [n for n, _ in chunk_frames(source, Chunk(0, 0, 10), preroll=10)] == list(range(10))


def test_behind_the_end_there_are_no_frames_and_no_error(moving, tmp_path):
    source = FrameSource(moving("25"), Box(0, 0, 64), None, 64)
    assert list(chunk_frames(source, Chunk(2, 500, 750))) == []
    assert len(list(chunk_frames(source, Chunk(0, 75, 325)))) == 25
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    with pytest.raises(InputError):
        list(chunk_frames(FrameSource(damaged, Box(0, 0, 64), None, 64), Chunk(0, 0, 250)))
