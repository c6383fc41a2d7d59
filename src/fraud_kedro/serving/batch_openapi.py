"""What the API's page says of batches: one route, three formats, and uploads."""

from __future__ import annotations

from typing import Any

from fraud_kedro.serving.batch_formats import MEDIA_TYPES, Format
from fraud_kedro.serving.batch_upload import FIELD
from fraud_kedro.serving.documents import BatchPredictions, Problems, Refusal
from fraud_kedro.serving.openapi import BATCH, EXPLAIN

_FILE = {"type": "string", "format": "binary"}
_TABLES: dict[str, Any] = {
    MEDIA_TYPES[Format.CSV]: {
        "schema": {
            "type": "string",
            "description": "UTF-8, commas, and a header with the names of the features; "
            "`GET /predict/batch/template` gives one.",
        }
    },
    MEDIA_TYPES[Format.PARQUET]: {"schema": _FILE},
}

#: Described by hand: the route reads its body by itself.
BATCH_BODY: dict[str, Any] = {
    "parameters": [*EXPLAIN],
    "requestBody": {
        "required": True,
        "content": {
            MEDIA_TYPES[Format.JSON]: {"schema": {"$ref": f"#/components/schemas/{BATCH}"}},
            **_TABLES,
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {FIELD: _FILE}, "required": [FIELD]}
            },
        },
    },
}

BATCH_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": BatchPredictions,
        "description": "In the format of the request, or the one that Accept names. Tables have their own "
        "columns and `transaction_id`, `prediction`, `probability`, `decision`, `model_version`, "
        "`timestamp` and `error` (why a row has no prediction); with explain=true `reasons`, in JSON.",
        "content": _TABLES,
    },
    403: {"model": Problems, "description": "A page of another site may not upload."},
    406: {"model": Problems, "description": "Answers are JSON, CSV or Parquet."},
    408: {"model": Problems, "description": "No more of the body came."},
    413: {"model": Refusal, "description": "Too many bytes or rows."},
    415: {"model": Problems, "description": "The body has another type."},
    422: {"description": "No transaction could be scored, or the file cannot be read."},
    503: {"model": Refusal, "description": "No model, or the prediction log fails."},
}
