"""Finding videos and their speakers."""

from pathlib import Path

import pytest

from data_tools.corpus.selection import find_sources, speaker_of
from data_tools.errors import InputError


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


@pytest.mark.parametrize(
    ("path", "rule", "speaker"),
    [
        ("pretrain/0af00UcTOSc/50001.mp4", "folder", "0af00UcTOSc"),
        ("trainval/0af00UcTOSc/50001.mp4", "top", "0af00UcTOSc"),
        ("id10270/5r0dWxy17C8/00001.mp4", "top", "id10270"),
        ("id10270/5r0dWxy17C8/00001.mp4", "folder", "id10270/5r0dWxy17C8"),
        ("ada/talk.mp4", "folder", "ada"),
        ("ada/talk.mp4", "file", "ada/talk"),
        ("talk.mp4", "folder", "talk"),
        ("test/talk.mp4", "folder", "test"),
    ],
)
def test_who_speaks(path, rule, speaker):
    assert speaker_of(Path(path), rule) == speaker


def test_every_video_is_found_once_with_a_name_of_its_own(tmp_path):
    tree(tmp_path, "a/1.mp4", "a/1.mov", "a/notes.txt", "a/.hidden.mp4", ".cache/2.mp4", "b/x/1.MP4")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    sources = find_sources(tmp_path, "folder")
    assert sorted(source.name for source in sources) == ["a/1", "a/1.mp4", "b/x/1"]
    assert {source.path.read_bytes().decode() for source in sources} == {"a/1.mp4", "a/1.mov", "b/x/1.MP4"}


def test_camera_files_are_found_and_the_rest_is_counted(tmp_path, caplog):
    tree(tmp_path, "a/1.mts", "a/2.MOV", "a/3.wmv", "b/4.3gp", "a/1.txt", "b/2.txt", "b/README")
    with caplog.at_level("INFO"):
        assert sorted(source.name for source in find_sources(tmp_path, "folder")) == ["a/1", "a/2", "a/3", "b/4"]
    assert "2 (.txt), 1 (no suffix)" in caplog.text


def test_every_beginning_holds_many_speakers(tmp_path):
    tree(tmp_path, *(f"{speaker}/{clip}.mp4" for speaker in "abcd" for clip in range(5)))
    sources = find_sources(tmp_path, "folder")
    for start in range(0, 20, 4):
        assert {source.speaker for source in sources[start : start + 4]} == set("abcd")


def test_a_folder_without_videos_is_refused(tmp_path):
    tree(tmp_path, "a/notes.txt")
    with pytest.raises(InputError, match="no video in"):
        find_sources(tmp_path, "folder")
    with pytest.raises(InputError, match="not a folder"):
        find_sources(tmp_path / "absent", "folder")
