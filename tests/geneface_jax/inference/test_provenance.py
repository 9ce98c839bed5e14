"""The origin of a video is read as it was written, or refused; boxes of any length cost nothing."""

from __future__ import annotations

import resource
import struct
import time

import pytest

from data_tools.errors import InputError
from geneface_jax.inference import provenance
from geneface_jax.inference.provenance import XMP_UUID, Provenance, read, stamp, uuid_box

ORIGIN = Provenance("Anna", "0123456789abcdef", "Anna, <today> & for ever")


def box(kind, content=b"", length=None):
    return struct.pack(">I4s", 8 + len(content) if length is None else length, kind) + content


VIDEO = box(b"ftyp", b"isom") + box(b"moov", bytes(20)) + box(b"mdat", bytes(50))


def test_a_stamped_video_is_read_and_stamped_again(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(VIDEO)
    assert read(path) is None
    stamp(path, ORIGIN)
    assert read(path) == ORIGIN and path.read_bytes() == VIDEO + uuid_box(ORIGIN)
    other = Provenance("Ben", "f" * 16, "not stated")
    stamp(path, other)
    assert read(path) == other and path.read_bytes() == VIDEO + uuid_box(other)


def test_a_packet_of_an_older_version_has_no_checksum(tmp_path):
    packet = provenance.xmp_packet(ORIGIN).decode()
    older = "\n".join(line for line in packet.split("\n") if "Checksum" not in line).replace("geneface_jax:2", "geneface_jax:1").encode()
    (tmp_path / "a.mp4").write_bytes(VIDEO + box(b"uuid", XMP_UUID + older))
    assert read(tmp_path / "a.mp4") == ORIGIN


@pytest.mark.parametrize("old, new", [("Anna, ", "Ben, "), ("<geneface:Consent>", "<geneface:Cansent>"), ("0123456789", "0123456788")])
def test_a_changed_packet_is_refused(tmp_path, old, new):
    packet = provenance.xmp_packet(ORIGIN).decode().replace(old, new).encode()
    (tmp_path / "a.mp4").write_bytes(VIDEO + box(b"uuid", XMP_UUID + packet))
    with pytest.raises(InputError, match="provenance in .* doesn't hold what was written"):
        read(tmp_path / "a.mp4")


BROKEN = {
    "a length of nothing": VIDEO + box(b"free", length=7),
    "beyond the end": VIDEO + box(b"free", length=2**31),
    "64 bits beyond the end": VIDEO + struct.pack(">I4sQ", 1, b"mdat", 2**63),
    "64 bits without a length": VIDEO + struct.pack(">I4s", 1, b"mdat"),
    "64 bits of 8": VIDEO + struct.pack(">I4sQ", 1, b"mdat", 8),
    "cut off": VIDEO[:-3],
    "another file": b"RIFF" + bytes(100),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_mp4_is_one_sentence(tmp_path, kind):
    (tmp_path / "a.mp4").write_bytes(BROKEN[kind])
    for call in (read, lambda path: stamp(path, ORIGIN)):
        with pytest.raises(InputError, match="is no mp4, or a damaged one"):
            call(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="can't be read"):
        read(tmp_path / "none.mp4")


def test_a_million_boxes_take_little_memory_and_more_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.mp4"
    path.write_bytes(VIDEO + 200_000 * box(b"free") + uuid_box(ORIGIN))
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert read(path) == ORIGIN
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000 and time.perf_counter() - started < 5
    monkeypatch.setattr(provenance, "MOST_BOXES", 1000)
    with pytest.raises(InputError, match="damaged"):
        read(path)
