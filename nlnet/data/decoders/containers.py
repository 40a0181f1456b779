"""Which container a file is, from its first bytes: for backends that are exact in some of them only."""

_MATROSKA = b"\x1aE\xdf\xa3"
_ASF = b"0&\xb2u\x8ef\xcf\x11"
_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"}


def container(path: str) -> str:
    """The name of the container for people; "unknown" where the bytes tell none.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(400)
    if head[4:8] in _MP4_BOXES:
        return "MP4/MOV"
    if head.startswith(_MATROSKA):
        return "Matroska/WebM"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "AVI"
    if head[::188][:2] == b"\x47\x47" or head[4::192][:2] == b"\x47\x47":
        return "MPEG-TS"
    if head.startswith(b"\0\0\x01\xba"):
        return "MPEG-PS"
    if head.startswith(_ASF):
        return "ASF/WMV"
    names = {b"FLV": "FLV", b"GIF8": "GIF", b"OggS": "Ogg"}
    return next((name for start, name in names.items() if head.startswith(start)), "unknown")
