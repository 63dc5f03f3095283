"""Check the arguments of a tool call against the signature of the tool's function."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, cast

from pydantic import BaseModel, ValidationError, create_model

from ...errors import InvalidRequestError

__all__ = ["Arguments"]

_SHOWN = 60
_LONGEST_NAME = 40


class Arguments:
    """The arguments of a tool: all parameters of its function except the first, which is the call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
        fields: dict[str, Any] = {
            item.name: (item.annotation, ... if item.default is item.empty else item.default)
            for item in islice(parameters, 1, None)
        }
        self._tool = function.__name__
        self._model: type[BaseModel] = create_model(f"{self._tool}Arguments", **fields)
        self.schema: dict[str, Any] = self._model.model_json_schema()
        """JSON schema of the arguments. Descriptions may contain ``{limits.name}``."""
        self._types = {name: _alternatives(found) for name, found in self.schema["properties"].items()}

    def parse(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the validated arguments, with defaults for those that are missing.

        :raises InvalidRequestError: arguments are unknown, missing or invalid; the message has one line for each.
        """
        for name in given:
            if name not in self._types:  # ignoring a misspelt keep_files would delete the files
                known = ", ".join(self._types)
                raise InvalidRequestError(
                    f"there is no argument {name[:_LONGEST_NAME]!a}; {self._tool} takes {known}.", argument=name
                )
        values = {name: self._decoded(name, value) for name, value in given.items()}
        invalid = {name for name, value in values.items() if isinstance(value, bool) and not self._takes(name, bool)}
        try:
            model = self._model.model_validate(values)
        except ValidationError as error:
            invalid.update(str(item["loc"][0]) for item in error.errors(include_url=False, include_context=False))
        else:
            if not invalid:
                return {name: getattr(model, name) for name in self._types}
        names = [name for name in self._types if name in invalid]
        raise InvalidRequestError("\n".join(self._problem(name, given) for name in names), argument=names[0])

    def _takes(self, name: str, type_: type) -> bool:
        wanted = {bool: "boolean", str: "string"}[type_]
        return any(found.get("type") == wanted for found in self._types[name])

    def _decoded(self, name: str, value: object) -> object:
        """Decode a list, an object or null that a client has sent as a string, as some do."""
        if isinstance(value, str) and len(self._types[name]) > 1 and (value[:1] in ("[", "{") or value == "null"):
            with contextlib.suppress(ValueError, RecursionError):
                return json.loads(value)
        return value

    def _problem(self, name: str, given: Mapping[str, Any]) -> str:
        expected = " or ".join(_described(found) for found in self._types[name] if found.get("type") != "null")
        if name not in given:
            return f"`{name}` is required and must be {expected}."
        text = json.dumps(given[name])
        return f"`{name}` must be {expected}, not {text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}."


def _alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return cast("list[Mapping[str, Any]]", schema.get("anyOf", [schema]))


def _described(schema: Mapping[str, Any]) -> str:
    """Describe the values that *schema* allows, such as "an integer of at least 0"."""
    if "enum" in schema:
        return " or ".join(json.dumps(value) for value in schema["enum"])
    if schema["type"] == "array":
        return f"a list of {schema['items']['type']}s"
    noun = {"boolean": "true or false", "integer": "an integer"}.get(schema["type"], f"a {schema['type']}")
    return f"{noun} of at least {schema['minimum']}" if "minimum" in schema else noun
