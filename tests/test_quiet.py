from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest

from fraud_kedro.quiet import _ENVIRONMENT, _HARMLESS, silence_known_noise


@pytest.fixture
def _silenced(monkeypatch):
    """Silence, and undo it afterwards: filters, variables and captured warnings."""
    before = {name: list(logging.getLogger(name).filters) for name in _HARMLESS}
    for variable in _ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    silence_known_noise()
    yield
    logging.captureWarnings(False)
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters
    for variable in _ENVIRONMENT:
        os.environ.pop(variable, None)


@pytest.mark.usefixtures("_silenced")
@pytest.mark.parametrize(
    ("logger", "text"), [(name, text) for name, texts in _HARMLESS.items() for text in texts]
)
def test_a_known_harmless_line_is_dropped_and_any_other_is_not(caplog, logger, text):
    caplog.set_level(logging.INFO, logger=logger)
    logging.getLogger(logger).warning("file.py:1: UserWarning: %s and so on", text)
    logging.getLogger(logger).warning("something new")
    assert [record.getMessage() for record in caplog.records if record.name == logger] == ["something new"]


@pytest.mark.usefixtures("_silenced")
def test_other_loggers_keep_such_a_line(caplog):
    logging.getLogger("fraud_kedro").warning("Using synchronous mode")
    assert "Using synchronous mode" in caplog.text


@pytest.mark.usefixtures("_silenced")
def test_telemetry_is_off():
    for variable in (
        "DO_NOT_TRACK",
        "KEDRO_DISABLE_TELEMETRY",
        "MLFLOW_DISABLE_TELEMETRY",
        "BENTOML_DO_NOT_TRACK",
    ):
        assert os.environ[variable] == _ENVIRONMENT[variable]


def test_what_a_user_has_set_stays(monkeypatch):
    before = {name: list(logging.getLogger(name).filters) for name in _HARMLESS}
    for variable in _ENVIRONMENT:
        monkeypatch.setenv(variable, "mine")
    silence_known_noise()
    assert {os.environ[variable] for variable in _ENVIRONMENT} == {"mine"}
    logging.captureWarnings(False)
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters


@pytest.mark.usefixtures("_silenced")
def test_a_warning_of_ones_own_code_is_still_shown(caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("mind the gap", stacklevel=1)
    assert "mind the gap" in caplog.text


@pytest.mark.slow
def test_a_kedro_command_prints_nothing_but_its_own_output(request, tmp_path):
    command = [sys.executable, "-m", "kedro", "registry", "list"]
    environment = {**os.environ, "FRAUD_ROOT": str(tmp_path)}
    for variable in _ENVIRONMENT:
        environment.pop(variable, None)
    done = subprocess.run(
        command, cwd=request.config.rootpath, capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    names = [line.removeprefix("- ") for line in done.stdout.split()]
    assert {"data_processing", "tuning", "training", "export", "__default__"} <= set(names)
