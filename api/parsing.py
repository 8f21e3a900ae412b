"""Request bodies: read, checked, and refused in words that name the field, the value and what is allowed."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from api.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)


async def parse_body(request: Request, schema: type[M]) -> M:
    """The body as `schema`, whatever its content type says: `curl -d` sends a form's."""
    body = await request.body()
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error, schema) from None


def refusal(error: ValidationError, schema: type[BaseModel]) -> InvalidRequest:
    """The first complaint that a person can act on."""
    details = error.errors(include_url=False, include_context=True)
    detail = max(details, key=_weight)
    # Names of union branches stand in `loc` beside the field names; they mean nothing to a caller.
    path = [part for part in detail["loc"] if isinstance(part, int) or _is_field(part)]
    field = ".".join(str(part) for part in path)
    if detail["type"] == "json_invalid":
        return InvalidRequest(f"the body is not valid JSON: {detail['msg'].removeprefix('Invalid JSON: ')}")
    if detail["type"] == "extra_forbidden":
        return _unknown(str(detail["loc"][-1]), path[:-1], schema)
    if not field:
        return InvalidRequest(f"the body must be a JSON object; got {_shown(detail['input'])}")
    if detail["type"] == "missing":
        return InvalidRequest(f"{field} is required and missing", field=field)
    allowed = detail["msg"]
    same = [d for d in details if [p for p in d["loc"] if isinstance(p, int) or _is_field(p)] == path]
    if len(same) > 1:
        allowed = ", or ".join(dict.fromkeys(d["msg"].removeprefix("Input should be ") for d in same))
        allowed = f"Input should be {allowed}"
    allowed = allowed.replace("Input should be", "must be", 1).replace("should have", "must have")
    return InvalidRequest(f"{field} {allowed}; got {_shown(detail['input'])}", field=field)


def _weight(detail: Any) -> tuple[int, int]:
    # In a union the branch that went deepest is the one the caller meant; unknown names come first of all.
    return (detail["type"] == "extra_forbidden", len(detail["loc"]))


def _is_field(part: object) -> bool:
    text = str(part)
    return text.isidentifier() and text not in _BRANCHES and not text[:1].isupper()


_BRANCHES = frozenset({"str", "int", "float", "bool", "list", "dict", "is_instance", "constrained_str"})


def _unknown(name: str, path: list[Any], schema: type[BaseModel]) -> InvalidRequest:
    allowed = sorted(_fields_at(schema, path))
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    field = ".".join(str(part) for part in [*path, name])
    listing = f"; allowed: {', '.join(allowed)}" if allowed else ""
    return InvalidRequest(f"{field} is not a known parameter{hint}{listing}", field=field)


def _fields_at(schema: type[BaseModel], path: list[Any]) -> list[str]:
    current: type[BaseModel] = schema
    for part in path:
        field = current.model_fields.get(str(part))
        if field is None:
            return []
        inner = _models_in(field.annotation)
        if not inner:
            return []
        current = inner[0]
    return list(current.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
