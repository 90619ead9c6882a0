"""The API's description: OpenAPI 3.1 with the columns of the contract, and an example that can be sent as it is."""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Any

import polars as pl

from deployments.online.bodies import ARROW, CSV, JSON
from deployments.online.versions import Active
from tasks.admission import Admission

_TYPES: Mapping[type, Mapping[str, Any]] = {
    pl.Float64: {"type": "number"},
    pl.Int64: {"type": "integer"},
    pl.Boolean: {"type": "boolean"},
    pl.String: {"type": "string"},
    pl.Datetime: {"type": "string", "description": "ISO 8601; UTC where no zone is named"},
    pl.Date: {"type": "string", "format": "date"},
}
_BOUNDS = {
    "greater_than": ("exclusiveMinimum", "min_value"),
    "greater_than_or_equal_to": ("minimum", "min_value"),
    "less_than": ("exclusiveMaximum", "max_value"),
    "less_than_or_equal_to": ("maximum", "max_value"),
}
_STATUSES = {
    "400": "The request cannot be understood.",
    "401": "A token is missing or is not known.",
    "408": "The body did not come in time.",
    "413": "More rows or bytes than a request may have.",
    "415": "A body of a kind that is not read.",
    "421": "The server answers on loopback alone.",
    "422": "Rows that break the contract, each is named, or for which the model has no finite figure.",
    "500": "The model failed.",
    "503": "No model answers, or too many requests are being answered.",
    "504": "The prediction took too long.",
}


def column(dtype: pl.DataType, rules: Any) -> dict[str, Any]:
    """Describe a column of the contract in JSON Schema; what is missing is null, where the contract allows it."""
    made: dict[str, Any] = dict(_TYPES[type(dtype)])
    for check in rules.checks:
        given = check.statistics or {}
        if check.name == "in_range":
            low, high = (
                ("minimum" if given.get("include_min", True) else "exclusiveMinimum"),
                ("maximum" if given.get("include_max", True) else "exclusiveMaximum"),
            )
            made |= {low: _plain(given["min_value"]), high: _plain(given["max_value"])}
        elif check.name in _BOUNDS:
            keyword, name = _BOUNDS[check.name]
            made[keyword] = _plain(given[name])
        elif check.name == "isin":
            made["enum"] = [_plain(value) for value in given["allowed_values"]] + ([None] if rules.nullable else [])
    return made | ({"type": [made["type"], "null"]} if rules.nullable else {})


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


def example(active: Active, private: Collection[str]) -> dict[str, Any]:
    """Give a row that can be asked for: a golden one, or one made from the contract where the model has none or columns are `private`."""
    admission = active.answerer.admission
    if active.golden.height and not private:
        return {name: _plain(value) for name, value in active.golden.select(*admission.types).row(0, named=True).items()}
    return {name: _made(column(dtype, admission.schema.columns[name])) for name, dtype in admission.types.items()}


def _made(described: Mapping[str, Any]) -> Any:
    if "enum" in described:
        return described["enum"][0]
    kind = described["type"][0] if isinstance(described["type"], list) else described["type"]
    low, high = described.get("minimum", described.get("exclusiveMinimum")), described.get("maximum", described.get("exclusiveMaximum"))
    middle = (
        (low + high) / 2 if low is not None and high is not None else low + 1 if low is not None else high - 1 if high is not None else 0
    )
    moment = "2026-01-01" if described.get("format") == "date" else "2026-01-01T00:00:00" if "description" in described else "text"
    plain = {"number": float(middle), "integer": int(middle), "boolean": False, "string": moment}
    return plain[kind]


def describe(base: Mapping[str, Any], name: str, active: Active | None, private: Collection[str], secured: bool) -> dict[str, Any]:
    """Complete the description that FastAPI makes of the other routes with the one for predictions, of the version that answers now."""
    made = {**base, "paths": {**base.get("paths", {}), "/v1/predict": {"post": _predict(name, active, private)}}}
    if not secured:
        return made
    schemes = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
    return {**made, "components": {**base.get("components", {}), **schemes}, "security": [{"token": []}]}


def _predict(name: str, active: Active | None, private: Collection[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"type": "object"}
    worked: dict[str, Any] = {"rows": []}
    if active is not None:
        row, worked = _row(active.answerer.admission), {"rows": [example(active, private)]}
    columns = {key: {"type": "array", "minItems": 1, "items": value} for key, value in row.get("properties", {}).items()}
    wide = {"type": "object", "properties": columns, "required": list(columns)}
    body = {
        "oneOf": [
            {
                "type": "object",
                "properties": {"rows": {"type": "array", "minItems": 1, "items": row}},
                "required": ["rows"],
                "additionalProperties": False,
            },
            {"type": "object", "properties": {"columns": wide}, "required": ["columns"], "additionalProperties": False},
        ]
    }
    raw = {"schema": {"type": "string", "format": "binary"}}
    return {
        "summary": f"Predict rows of {name}",
        "description": "Each row is held against the contract; the version that answers is in the reply and in the header X-Model-Version.",
        "operationId": "predict",
        "requestBody": {"required": True, "content": {JSON: {"schema": body, "example": worked}, CSV: raw, ARROW: raw}},
        "responses": {
            "200": {"description": "Predictions, one a row.", "content": {JSON: {"schema": _reply()}, CSV: raw, ARROW: raw}},
            **problems(),
        },
    }


def _row(admission: Admission) -> dict[str, Any]:
    properties = {key: column(dtype, admission.schema.columns[key]) for key, dtype in admission.types.items()}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _reply() -> dict[str, Any]:
    told = {"id": {"type": "string"}, "predicted": {}, "low": {"type": "number"}, "high": {"type": "number"}}
    one = {"type": "object", "properties": told, "required": ["id", "predicted"]}
    whole = {"pipeline": {"type": "string"}, "version": {"type": "integer"}, "decision": {"type": "integer"}, "request": {"type": "string"}}
    return {
        "type": "object",
        "properties": {**whole, "predictions": {"type": "array", "items": one}},
        "required": [*whole, "predictions"],
    }


def problems() -> dict[str, Any]:
    """Describe the replies that say what is wrong."""
    fault = {
        "type": "object",
        "properties": {
            "row": {"type": "integer"},
            "column": {"type": "string"},
            "rule": {"type": "string"},
            "value": {"type": ["string", "null"]},
        },
    }
    told = {"code": {"type": "string"}, "message": {"type": "string"}, "faults": {"type": "array", "items": fault}}
    schema = {
        "type": "object",
        "properties": {"error": {"type": "object", "properties": told, "required": list(told)}},
        "required": ["error"],
    }
    return {status: {"description": text, "content": {JSON: {"schema": schema}}} for status, text in _STATUSES.items()}
