"""Binary tensors of the Open Inference Protocol, which follow the JSON part of a body.

The header ``Inference-Header-Content-Length`` says how many bytes the JSON part has. A tensor of texts (BYTES) has the
number of bytes of each text, as four little-endian bytes, in front of the text; numbers are little-endian too.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

import re

from serving.errors import InvalidRequestError, MalformedError
from simile.text_input import text_fault

JSON_SIZE = "inference-header-content-length"
_LENGTH_BYTES = 4


def split(body: bytes, json_size: str) -> tuple[bytes, bytes]:
    """Return the JSON part of a body and the tensors after it; ``json_size`` is the value of the header."""
    if not re.fullmatch("[0-9]{1,12}", json_size) or int(json_size) > len(body):
        got = f"got {json_size[:40]!r} in the header Inference-Header-Content-Length"
        raise MalformedError(f"{got}, need the bytes of the body's JSON part, at most {len(body)}")
    return body[: int(json_size)], body[int(json_size) :]


def texts_of(tensor: bytes, place: str, most: int) -> list[str]:
    """Return the texts of a tensor, but no more than one beyond ``most``; ``place`` is the tensor's in the request."""
    texts: list[str] = []
    start = 0
    while start < len(tensor) and len(texts) <= most:
        begin = start + _LENGTH_BYTES
        start = begin + int.from_bytes(tensor[start:begin], "little")
        here = f"{place}[{len(texts)}]"
        if start > len(tensor):
            raise InvalidRequestError(f"got a length beyond the tensor's end, need at most {len(tensor)} bytes", here)
        try:
            text = tensor[begin:start].decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequestError("got bytes that are not UTF-8, need a text", here) from None
        if fault := text_fault(text):
            raise InvalidRequestError(fault, here)
        texts.append(text)
    return texts
