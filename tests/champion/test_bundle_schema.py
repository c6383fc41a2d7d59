from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from fraud_kedro.champion.bundle import METADATA_FILE
from fraud_kedro.champion.bundle_schema import bundle_schema


@pytest.fixture
def validator(request):
    file = request.config.rootpath / "docs" / "bundle_metadata.schema.json"
    return Draft202012Validator(json.loads(file.read_text()))


def test_the_page_has_the_schema_that_the_code_writes(request):
    file = request.config.rootpath / "docs" / "bundle_metadata.schema.json"
    printed = subprocess.run(
        [sys.executable, "-m", "fraud_kedro.champion.bundle_schema"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert json.loads(file.read_text()) == json.loads(printed) == bundle_schema()


def test_a_bundles_metadata_follows_the_schema(validator, make_bundle, tmp_path):
    written = json.loads((make_bundle(tmp_path / "champion").folder / METADATA_FILE).read_text())
    validator.validate(written)
    for change in ({"thresholds": {"flag": 2}}, {"files": None}, {"unknown": 1}):
        assert not validator.is_valid(copy.deepcopy(written) | change)
