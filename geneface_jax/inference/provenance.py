"""Provenance metadata of a video: made by a trained model, which one, and with whose consent.

It is an XMP packet with IPTC's DigitalSourceType `trainedAlgorithmicMedia`, in a `uuid` box at the end of the mp4, as in the XMP
specification (part 3), where ExifTool and asset managers read it. Players skip it, and no offset in the file changes.
"""

import dataclasses
import hashlib
import importlib.metadata
import os
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, unescape

from data_tools.errors import InputError
from data_tools.io import atomic_path
from geneface_jax.io import checkpoints
from geneface_jax.io.person_folder import SubjectParts

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
TOOL = f"geneface_jax {importlib.metadata.version('geneface_jax')}"

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:geneface="urn:geneface_jax:2">
<Iptc4xmpExt:DigitalSourceType>{source_type}</Iptc4xmpExt:DigitalSourceType>
<xmp:CreatorTool>{tool}</xmp:CreatorTool>
<geneface:Person>{person}</geneface:Person>
<geneface:Model>{model}</geneface:Model>
<geneface:Consent>{consent}</geneface:Consent>
<geneface:Checksum>{check}</geneface:Checksum>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
_TAGS = {
    "source_type": "Iptc4xmpExt:DigitalSourceType",
    "tool": "xmp:CreatorTool",
    "person": "geneface:Person",
    "model": "geneface:Model",
    "consent": "geneface:Consent",
}
_CHECK_TAG, _WITH_CHECKSUM = "geneface:Checksum", "urn:geneface_jax:2"
"""Packets of older versions have neither."""

LONGEST_PACKET = 1 << 20
"""Bytes of an XMP packet that are read; ours have a thousand."""

MOST_BOXES = 1_000_000
"""Top-level boxes of an mp4: a stream has two a second."""


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Origin of a video.

    Attributes:
      person: the dataset's name.
      model: 16 hex digits of a sha256 over the checkpoints that made it.
      consent: who agreed and when, or "not stated".
      tool: name and version of the program.
      source_type: IPTC's DigitalSourceType.
    """

    person: str
    model: str
    consent: str
    tool: str = TOOL
    source_type: str = SOURCE_TYPE

    def __post_init__(self) -> None:
        # XML allows no control characters.
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, re.sub(r"[\x00-\x1f\x7f\ufffe\uffff]+", " ", str(getattr(self, field.name))))


def provenance_of(parts: SubjectParts, meta: Mapping[str, Any]) -> Provenance:
    """Provenance of a person's videos, from its networks and the dataset's meta.json."""
    return Provenance(str(meta.get("name", "")), model_hash(parts), meta.get("consent") or "not stated")


def model_hash(parts: SubjectParts) -> str:
    """16 hex digits of a sha256 over the checkpoint files that inference loads: the selected or newest step of speech, head and torso."""
    digest = hashlib.sha256()
    for stage in parts.stages:
        steps = checkpoints.steps(parts.folder / stage)
        if not steps:
            continue
        chosen = checkpoints.read_selected_step(parts.folder / stage)
        folder = parts.folder / stage / "checkpoints" / str(steps[-1] if chosen is None else chosen)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest.update(f"{stage}/{path.relative_to(folder).as_posix()}\n".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def xmp_packet(provenance: Provenance) -> bytes:
    """The XMP packet, UTF-8."""
    values = {name: escape(value) for name, value in dataclasses.asdict(provenance).items()}
    return _PACKET.format(**values, check=_check(provenance)).encode("utf-8", "replace")


def uuid_box(provenance: Provenance) -> bytes:
    """The XMP packet as a box for the end of any mp4, fragmented or not."""
    packet = xmp_packet(provenance)
    return struct.pack(">I4s", 24 + len(packet), b"uuid") + XMP_UUID + packet


def stamp(path: str | os.PathLike, provenance: Provenance) -> None:
    """Writes provenance into an mp4 and removes an earlier one; the file is replaced atomically.

    Raises:
      InputError: the file is no mp4.
    """
    path = Path(path)
    kept = [(start, end) for start, end, is_ours in _boxes(path) if not is_ours]
    with atomic_path(path) as temporary:
        with path.open("rb") as source, temporary.open("wb") as target:
            for start, end in kept:
                source.seek(start)
                _copy(source, target, end - start)
            target.write(uuid_box(provenance))
        shutil.copymode(path, temporary)


def stamper(path: str | os.PathLike, provenance: Provenance) -> Callable[[Path], None] | None:
    """What `VideoWriter` does as its `finish`, so that no mp4 gets its name without provenance; None if `path` is no mp4."""

    def append(partial: Path) -> None:
        # A file that was encoded just now has no earlier packet.
        with partial.open("ab") as stream:
            stream.write(uuid_box(provenance))

    return append if Path(path).suffix.lower() == ".mp4" else None


def read(path: str | os.PathLike) -> Provenance | None:
    """Reads the provenance of an mp4, or None.

    Raises:
      InputError: the file is no mp4, or the packet is damaged.
    """
    path = Path(path)
    ours = next(((start, end) for start, end, is_ours in _boxes(path) if is_ours), None)
    if ours is None:
        return None
    with path.open("rb") as stream:
        stream.seek(ours[0] + 24)
        packet = stream.read(min(ours[1] - ours[0] - 24, LONGEST_PACKET)).decode("utf-8", "replace")
    found = {name: re.search(f"<{tag}>([^<]*)</{tag}>", packet) for name, tag in _TAGS.items()}
    values = {name: unescape(match[1]) for name, match in found.items() if match}
    stated = re.search(f"<{_CHECK_TAG}>([^<]*)</{_CHECK_TAG}>", packet)
    # Packets of older versions have no checksum; of one that was damaged in two places, the other is left.
    has_checksum = stated is not None or _WITH_CHECKSUM in packet
    if len(values) < len(_TAGS) or (has_checksum and (stated is None or stated[1] != _check(Provenance(**values)))):
        raise InputError(f"The provenance in {path} doesn't hold what was written (a part is missing or changed): make the video again.")
    return Provenance(**values)


def _check(provenance: Provenance) -> str:
    """CRC-32 of the fields, as eight hex digits."""
    return f"{zlib.crc32(chr(0).join(dataclasses.astuple(provenance)).encode('utf-8', 'replace')):08x}"


def _boxes(path: Path) -> list[tuple[int, int, bool]]:
    """(start, end, is the XMP box) of the top-level boxes; neighbors that are no XMP box are one entry.

    Raises:
      InputError: the file is missing or no mp4, its boxes do not fill it, or there are more than `MOST_BOXES`.
    """
    found: list[tuple[int, int, bool]] = []
    start, count = 0, 0
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            while start < size:
                stream.seek(start)
                header = stream.read(24)
                length, kind = struct.unpack(">I4s", header[:8]) if len(header) >= 8 else (0, b"")
                smallest = 8
                if length == 1 and len(header) >= 16:
                    length, smallest = struct.unpack(">Q", header[8:16])[0], 16
                elif length == 0 and kind:
                    length = size - start
                count += 1
                if length < smallest or start + length > size or (start == 0 and kind != b"ftyp") or count > MOST_BOXES:
                    raise InputError(f"{path} is no mp4, or a damaged one: make it again.")
                is_ours = kind == b"uuid" and length >= 24 and header[8:24] == XMP_UUID
                if found and not (is_ours or found[-1][2]):
                    found[-1] = (found[-1][0], start + length, False)
                else:
                    found.append((start, start + length, is_ours))
                start += length
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): check the file's name.") from error
    return found


def _copy(source: Any, target: Any, count: int) -> None:
    while count > 0:
        data = source.read(min(count, 1 << 20))
        target.write(data)
        count -= len(data)
