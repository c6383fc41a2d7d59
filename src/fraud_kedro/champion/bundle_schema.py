"""The JSON schema of ``metadata.json``: ``python -m fraud_kedro.champion.bundle_schema > FILE``."""

from __future__ import annotations

import json
import sys
from typing import Any

from fraud_kedro.champion.bundle import FORMAT_VERSION, BundleMetadata


def bundle_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the metadata that `write_bundle` seals."""
    schema = BundleMetadata.model_json_schema(by_alias=True, mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Bundle format {FORMAT_VERSION}",
        **schema,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(bundle_schema(), indent=2) + "\n")
