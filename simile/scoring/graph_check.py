"""The check of an ONNX file before ONNX Runtime reads it: it may do nothing but compute with the weights inside it.

ONNX Runtime opens files that a graph names as external data, and runs loops without end. A graph without subgraphs and
functions ends after its last operator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from simile.errors import InputError

_OP_TYPE, _DOMAIN = 4, 7
"""The fields of a node that name its operator."""
_ONNX = (b"", b"ai.onnx")
_OURS = (b"com.microsoft", b"MultiHeadAttention")
"""The only operator of another domain that exported graphs need. Others of this domain open files."""
_MAX_FIELDS = 1_000_000
"""An encoder of 100 layers has a tenth; reading as many takes about a second."""
_EXTERNAL = "weights in other files (external data)"
_NO_ONNX = "the graph is no ONNX file, or it ends early"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Message:
    """The fields of a protobuf message, by their numbers in onnx.proto; one with any other field is refused."""

    skipped: frozenset[int]
    """Fields without messages that matter here."""
    inner: Mapping[int, "_Message"] = field(default_factory=dict)
    refused: Mapping[int, str] = field(default_factory=dict)
    """What each of these fields would bring."""
    texts: frozenset[int] = frozenset()
    """Fields whose texts matter; each may occur once."""


_TENSOR = _Message(frozenset({1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16}), refused={13: _EXTERNAL, 14: _EXTERNAL})
_ATTRIBUTE = _Message(
    frozenset({1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20}),
    inner={5: _TENSOR, 10: _TENSOR},
    refused={6: "a subgraph", 11: "subgraphs", 21: "an attribute of a function", 22: "sparse data", 23: "sparse data"},
)
_NODE = _Message(
    frozenset({1, 2, 3, 6, 9}), inner={5: _ATTRIBUTE}, refused={8: "an overload"}, texts=frozenset({_OP_TYPE, _DOMAIN})
)
_GRAPH = _Message(
    frozenset({2, 10, 11, 12, 13, 14, 16}), inner={1: _NODE, 5: _TENSOR}, refused={15: "sparse initializers"}
)
_MODEL = _Message(
    frozenset({1, 2, 3, 4, 5, 6, 8, 14}),
    inner={7: _GRAPH},
    refused={20: "a graph for training", 25: "functions", 26: "a configuration of devices"},
)


def require_plain_graph(model: bytes) -> None:
    """Refuse, by an `InputError`, an ONNX file that is not a single graph of ONNX's own operators with its own weights.

    Weights are skipped by their length.
    """
    _Reader(model).read(0, len(model), _MODEL)


class _Reader:
    """Reads protobuf's wire format: a field is its number and type, then a number, or a length and bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._num_fields = 0

    def read(self, at: int, end: int, message: _Message) -> None:
        """Check the message that lies between these places."""
        texts: dict[int, bytes] = {}
        while at < end:
            number, wire, at, after = self._field(at, end)
            if number in message.refused:
                raise InputError(f"the graph has {message.refused[number]}, need a plain graph with its own weights")
            if number in message.texts or number in message.inner:
                if wire != _BYTES or number in texts:
                    raise InputError(_NO_ONNX)
                if number in message.texts:
                    texts[number] = self._data[at:after]
                else:
                    self.read(at, after, message.inner[number])
            elif number not in message.skipped:
                raise InputError(f"the graph has an unknown field ({number})")
            at = after
        domain, operator = texts.get(_DOMAIN, b""), texts.get(_OP_TYPE, b"")
        if domain not in _ONNX and (domain, operator) != _OURS:
            names = [name[:40].decode(errors="replace") for name in (operator, domain)]
            got = f"the graph has the operator {names[0]!r} of the domain {names[1]!r}"
            raise InputError(f"{got}, need ONNX's own operators")

    def _field(self, at: int, end: int) -> tuple[int, int, int, int]:
        """Return number and type of the field at this place, and where its content begins and ends."""
        self._num_fields += 1
        if self._num_fields > _MAX_FIELDS:
            raise InputError(f"the graph has more than {_MAX_FIELDS:,} fields")
        key, at = self._number(at, end)
        wire = key & 7
        if wire == _BYTES:
            length, at = self._number(at, end)
            after = at + length
        elif wire == _VARINT:
            _, after = self._number(at, end)
        else:
            # The types that are left are groups, which no version of ONNX has.
            after = at + {_FIXED64: 8, _FIXED32: 4}.get(wire, len(self._data))
        if after > end:
            raise InputError(_NO_ONNX)
        return key >> 3, wire, at, after

    def _number(self, at: int, end: int) -> tuple[int, int]:
        """Return the variable-length number at this place, and the place after it."""
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                break
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise InputError(_NO_ONNX)
