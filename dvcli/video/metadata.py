"""Provenance embedded in media: one JSON text, found again in every format that is written.

mp4: the key `dvid` of the `mdta` tags · webm: the tag `DVID` · png, apng: an iTXt chunk `dvid` ·
webp: `dvid:provenance` in an XMP packet · gif: a comment that begins with `dvid:`.
"""

import re
from html import unescape
from pathlib import Path
from xml.sax.saxutils import escape

from dvcli.video.apart import ask
from dvcli.video.digest import check_source
from dvcli.video.opening import open_media
from dvcli.video.stills import is_still, opened

KEY = "dvid"
GIF_MARK = b"dvid:"
_OPEN = '<dvid:provenance xmlns:dvid="https://dvid.invalid/ns/1/">'
_CLOSE = "</dvid:provenance>"
_BEFORE = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="">'
)
_AFTER = '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'


def read_metadata(path: Path) -> str | None:
    """The text that `write` embedded in a media file, or None. Raises `InputError`."""
    if check_source(path):
        return None
    found = ask({"task": "metadata", "path": str(path)}, path).answer["metadata"]
    return None if found is None else str(found)


def find_metadata(path: Path) -> str | None:
    """The same in the process that is allowed to look into the file."""
    if not is_still(path):
        with open_media(path) as container:
            tags = {key.lower(): text for key, text in container.metadata.items()}
            return tags.get(KEY)
    with opened(path) as image:
        if image.format == "PNG":
            image.load()  # text may follow the pixels
            text = getattr(image, "text", {}).get(KEY)
            return None if text is None else str(text)
        if image.format == "WEBP":
            return from_xmp(image.info.get("xmp", b""))
        comment = image.info.get("comment", b"")
        if image.format == "GIF" and isinstance(comment, bytes) and comment.startswith(GIF_MARK):
            return comment[len(GIF_MARK) :].decode(errors="replace")
        return None


def to_xmp(metadata: str) -> bytes:
    """An XMP packet around the text."""
    # A bare carriage return would be read back as a line feed.
    return f"{_BEFORE}{_OPEN}{escape(metadata, {chr(13): '&#13;'})}{_CLOSE}{_AFTER}".encode()


def from_xmp(packet: bytes) -> str | None:
    """The text in an XMP packet that `to_xmp` wrote; other packets give None."""
    found = re.search(
        re.escape(_OPEN) + "(.*?)" + re.escape(_CLOSE), packet.decode(errors="replace"), re.DOTALL
    )
    return unescape(found[1]) if found else None
