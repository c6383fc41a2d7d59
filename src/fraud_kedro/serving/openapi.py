"""The OpenAPI page: FastAPI's, with the request model of the schema that is served."""

from __future__ import annotations

from typing import Any

import numpy as np

from fraud_kedro.prediction_log.tables import MAX_ID_LENGTH
from fraud_kedro.serving.documents import Feedback
from fraud_kedro.serving.explaining import DEFAULT_REASONS, MOST_REASONS, MOST_ROWS
from fraud_kedro.serving.model_store import ServedModel
from fraud_kedro.serving.requests import TRANSACTION_ID

TRANSACTION = "Transaction"
BATCH = "TransactionBatch"
FEEDBACK = "Feedback"

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


def request_schemas(model: ServedModel | None) -> dict[str, Any]:
    """Make the JSON schemas of requests.

    Parameters
    ----------
    model : ServedModel or None
        Without one, any object is described.

    Returns
    -------
    dict
        The schemas `Transaction`, `TransactionBatch`, and of labels.
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
    return {TRANSACTION: transaction, BATCH: batch, **feedback.pop("$defs"), FEEDBACK: feedback}


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
