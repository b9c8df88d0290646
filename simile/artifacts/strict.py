"""The base classes of everything that is written to a file: unknown keys are refused, values never change."""

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, computed_field

from simile.files import sha256_bytes


class StrictModel(BaseModel):
    """A frozen pydantic model that refuses unknown keys and numbers that JSON cannot hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ChecksummedModel(StrictModel):
    """A model whose file notices when it was changed: it holds the checksum of everything else in it."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def checksum(self) -> str:
        """The sha256 of the canonical JSON of all other fields."""
        value = self.model_dump(mode="json", exclude={"checksum"})
        return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())

    @classmethod
    def from_value(cls, value: Any) -> Self:
        """Return the model of a file's value; a ``ValueError`` if it does not fit or its checksum is another."""
        stated = value.get("checksum") if isinstance(value, dict) else None
        try:
            model = cls.model_validate({key: value[key] for key in value if key != "checksum"} if stated else value)
            checksum = model.checksum
        except RecursionError as error:
            raise ValueError("got values that are nested too deeply") from error
        if stated != checksum:
            raise ValueError(f"was changed, got {str(stated)[:12]}… as its checksum, need {checksum[:12]}…")
        return model
