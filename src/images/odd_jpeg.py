"""Is every pixel there of a JPEG that libjpeg warns about?

libjpeg warns alike about damage and about oddities that cost no pixel: parameters of a scan that
phones set, the revision of JFIF, a colour profile or an Adobe marker that is malformed, bytes
between two markers or before the end. TurboJPEG reports only the first warning, and does not read
unusual sampling factors at all.
"""

import io
import re
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image

# Not a stuffed zero, a fill byte or a restart marker: those belong to the data of a scan.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_START, _END = b"\xff\xd8", b"\xff\xd9"
_SEQUENTIAL, _SCAN, _END_OF_IMAGE = {0xC0, 0xC1}, 0xDA, 0xD9
_APPLICATION_AND_COMMENT = {*range(0xE0, 0xF0), 0xFE}  # no pixel depends on what these segments say
_WHOLE_SPECTRUM = bytes([0, 63, 0])  # the only parameters of a scan that is sequential

_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
# Data that the decoder has no use for: more means that it lost its way in the data before, as after
# a flipped bit; encoders that pad do so by a few bytes, or by one value.
_PADDING = 16
_FILLER = b"\x5a\xa5" * _PADDING


def damage(data: bytes) -> str:
    """Return what is wrong with the pixels of a JPEG; an empty string: they are all there.

    A flipped bit that leaves the data as long as they were shows nowhere but in the picture.
    """
    try:
        *head, scan = _segments(data)
    except ValueError as error:
        return str(error)
    before = b"".join(head)
    end = len(scan)
    # What the decoder has read ahead is not counted as left over, but next time.
    while found := _LEFT_OVER.search(complaint := _complaint(before + scan[:end] + _END)):
        end -= int(found[1])
        padding = scan[end:]
        if len(padding) > _PADDING and len(set(padding)) > 1:
            break
    if "subsampling" in complaint:
        complaint = "" if _ends_with(before, scan) else "corrupt JPEG data"
    return complaint


def _complaint(data: bytes) -> str:
    """Return the first warning or error of libjpeg."""
    try:
        simplejpeg.decode_jpeg(data)
    except ValueError as error:
        return str(error)
    return ""


def _segments(data: bytes) -> Iterator[bytes]:
    """Yield what the pixels of a JPEG depend on, in its order; last, the data of the last scan.

    Raises:
        ValueError: the end is missing.
    """
    yield _START
    at, scan, is_sequential = len(_START), 0, False
    while marker := _MARKER.search(data, at):
        if scan:
            yield data[scan : marker.start()]
        code, at = marker[1][0], marker.end()
        if code == _END_OF_IMAGE:
            return
        at += int.from_bytes(data[at : at + 2])
        scan = at if code == _SCAN else 0
        is_sequential |= code in _SEQUENTIAL
        segment = data[marker.start() : at]
        if code == _SCAN and is_sequential:
            segment = segment[:-3] + _WHOLE_SPECTRUM
        if code not in _APPLICATION_AND_COMMENT:
            yield segment
    raise ValueError("truncated JPEG: no end of image")


def _ends_with(before: bytes, scan: bytes) -> bool:
    """Return whether decoding needs the data of the last scan to their end, and no more.

    Pillow, which reads any sampling, keeps libjpeg's warnings to itself. What it makes of missing
    data changes with what is put there; of data that nobody reads, nothing changes.
    """
    padding = _PADDING + len(scan) - len(scan.rstrip(scan[-1:]))
    pixels, with_more, with_less = (
        np.asarray(Image.open(io.BytesIO(before + data + _END)))
        for data in (scan, scan + _FILLER, scan[:-padding])
    )
    ends_before = len(scan) > padding and np.array_equal(pixels, with_less)
    return np.array_equal(pixels, with_more) and not ends_before
