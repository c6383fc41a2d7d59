"""The OpenAPI page: FastAPI's, with the request model of the schema that is served."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from fraud_kedro.prediction_log.tables import MAX_ID_LENGTH
from fraud_kedro.serving.documents import DriftRequest, Feedback
from fraud_kedro.serving.explaining import DEFAULT_REASONS, MOST_REASONS, MOST_ROWS
from fraud_kedro.serving.model_store import ServedModel
from fraud_kedro.serving.requests import TRANSACTION_ID

TRANSACTION = "Transaction"
BATCH = "TransactionBatch"
FEEDBACK = "Feedback"
DRIFT_REQUEST = "DriftRequest"

EXPLAIN = (
    {
        "name": "explain",
        "in": "query",
        "description": f"Whether the answer has reasons; of a batch with at most {MOST_ROWS} transactions.",
        "schema": {"type": "boolean", "default": False},
    },
    {
        "name": "reasons",
        "in": "query",
        "description": "How many, with explain=true.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MOST_REASONS, "default": DEFAULT_REASONS},
    },
)
_TIMEOUT = "Timeout"


def request_schemas(model: ServedModel | None) -> dict[str, Any]:
    """Make the JSON schemas of requests.

    Parameters
    ----------
    model : ServedModel or None
        Without one, any object is described.

    Returns
    -------
    dict
        The schemas `Transaction`, `TransactionBatch`, of labels and of drift.
    """
    transaction: dict[str, Any] = {
        "title": TRANSACTION,
        "type": "object",
        "description": "The raw features of one transaction.",
    }
    if model is not None:
        names = (*model.requests.features, *model.requests.optional)
        transaction |= {
            "properties": {
                TRANSACTION_ID: {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": MAX_ID_LENGTH,
                    "description": "A second request with the same id and values gets the first answer.",
                },
                **{name: _property(model, name) for name in names},
            },
            "required": list(model.requests.features),
            "additionalProperties": False,
            "example": example_transaction(model),
        }
    batch = {
        "title": BATCH,
        "type": "object",
        "properties": {
            "transactions": {
                "type": "array",
                "minItems": 1,
                "items": {"$ref": f"#/components/schemas/{TRANSACTION}"},
            }
        },
        "required": ["transactions"],
        "additionalProperties": False,
    }
    reference = "#/components/schemas/{model}"
    feedback = Feedback.model_json_schema(ref_template=reference)
    return {
        TRANSACTION: transaction,
        BATCH: batch,
        **feedback.pop("$defs"),
        FEEDBACK: feedback,
        DRIFT_REQUEST: DriftRequest.model_json_schema(),
    }


def example_transaction(model: ServedModel) -> dict[str, float | str]:
    """Make a transaction the model can score: the median of each feature over its self-test rows.

    No real transaction is shown.
    """
    rows = np.asarray(model.scorer.metadata.self_test.rows, dtype=np.float64)
    middle = np.median(rows, axis=0) if len(rows) else np.zeros(len(model.requests.features))
    example: dict[str, float | str] = {
        name: round(float(value), 2) for name, value in zip(model.requests.features, middle, strict=True)
    }
    schema = model.requests.schema
    if schema.has_timestamps and schema.time in example:
        moment = schema.moment(float(example[schema.time]))
        example[schema.time] = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    return example


def _property(model: ServedModel, name: str) -> dict[str, Any]:
    schema = model.requests.schema
    if schema.has_timestamps and name == schema.time:
        return {"type": "string", "format": "date-time", "description": "UTC, unless it has an offset."}
    return {"type": "number"}


def json_body(schema: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    """Describe a JSON body, and parameters, for a route that reads them by itself."""
    return {
        "parameters": [*parameters],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
        },
    }


def describe_the_door(
    page: dict[str, Any], *, keys: bool, rate: bool, open_paths: Collection[str]
) -> dict[str, Any]:
    """Add what layers in front of the routes answer: keys, rates and time.

    Parameters
    ----------
    page : dict
        An OpenAPI page; it is changed.
    keys, rate : bool
        Whether keys are asked for, and a rate is held.
    open_paths : collection of str
        Paths that need no key.

    Returns
    -------
    dict
        The page.
    """
    refusals = {
        "504": (
            "The time was up (FRAUD_REQUEST_TIMEOUT_SECONDS).",
            {"$ref": f"#/components/schemas/{_TIMEOUT}"},
        )
    }
    refusal = {"$ref": "#/components/schemas/Refusal"}
    guarded = {}
    if keys:
        guarded["401"] = ("A key is needed, and none that is known was sent.", refusal)
        guarded["403"] = ("The key has another role.", refusal)
    if rate:
        guarded["429"] = ("More requests than the rate limit allows.", refusal)
    schemas = page.setdefault("components", {}).setdefault("schemas", {})
    schemas[_TIMEOUT] = {
        "title": _TIMEOUT,
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
    }
    if keys:
        page["components"]["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer"},
            "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    for path, methods in page["paths"].items():
        for method, operation in methods.items():
            added = dict(refusals) if path in open_paths else {**refusals, **guarded}
            if method == "post":
                added["408"] = ("The body took too long to arrive.", refusal)
            if keys and path not in open_paths:
                operation["security"] = [{"key": []}, {"header": []}]
            for status, (description, schema) in added.items():
                content = {"application/json": {"schema": schema}}
                operation["responses"].setdefault(status, {"description": description, "content": content})
    return page
