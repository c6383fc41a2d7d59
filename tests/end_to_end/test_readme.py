"""The README's requests, executed as they are written."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"
REQUESTS = re.findall(r"^curl .*?(?=^curl |^```)", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def answer_to(quick):
    """What a request of the README gets, sent to a service on a port that is free."""
    commands, _ = quick

    def answer(request: str) -> str:
        assert ADDRESS in request
        command = request.replace(ADDRESS, address).replace("curl -s", "curl -sf")
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    with commands.serve() as address:
        yield answer


def test_the_readme_has_its_requests():
    assert len(REQUESTS) == 6


@pytest.mark.parametrize("request_text", REQUESTS, ids=lambda text: re.search(r":8000(\S+)", text)[1])
def test_a_request_of_the_readme_is_answered(answer_to, request_text):
    assert answer_to(request_text).strip()


def test_the_readme_shows_the_fields_of_an_answer(answer_to):
    shown = json.loads(re.search(r"```json\n(.*?)```", README, flags=re.DOTALL)[1])
    (single,) = (text for text in REQUESTS if ":8000/predict " in text)

    assert list(json.loads(answer_to(single))) == list(shown)


def test_the_batch_of_the_readme_names_the_row_it_refuses(answer_to):
    (batch,) = (text for text in REQUESTS if ":8000/predict/batch " in text)

    answer = json.loads(answer_to(batch))

    assert [prediction["transaction_id"] for prediction in answer["predictions"]] == ["a-1"]
    (error,) = answer["errors"]
    assert error["row"] == 1
    assert "V1" in json.dumps(error)


def test_every_make_target_of_the_readme_exists():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    named = set(re.findall(r"\bmake ([a-z]+)", README))

    assert {"run", "test", "serve", "lint", "help"} <= named
    assert not [target for target in named if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)]
