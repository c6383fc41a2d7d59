from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fraud_kedro.serving.settings import ServingSettings, SettingsError, load_settings, unknown_variables

EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith(("FRAUD_", "MLFLOW_TRACKING_URI")):
            monkeypatch.delenv(name)


def documented():
    """Each variable of the example file with its default."""
    return dict(re.findall(r"^#? ?(FRAUD_\w+)=(.*)$", EXAMPLE.read_text(), flags=re.MULTILINE))


def test_the_defaults_keep_everything_below_the_root():
    settings = load_settings()
    assert settings.root == Path("data")
    assert settings.prediction_log == "sqlite:///data/prediction_log.db"
    assert settings.registry == "sqlite:///data/mlflow/mlflow.db"
    assert settings.local_bundle == Path("data/06_models/champion")
    assert settings.listens_on == "127.0.0.1"


def test_another_root_moves_everything(monkeypatch):
    monkeypatch.setenv("FRAUD_ROOT", "/srv/fraud")
    settings = load_settings()
    assert settings.prediction_log == "sqlite:////srv/fraud/prediction_log.db"
    assert settings.registry == "sqlite:////srv/fraud/mlflow/mlflow.db"


def test_the_registry_may_be_named_as_mlflow_names_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert load_settings().registry == "http://127.0.0.1:5000"
    monkeypatch.setenv("FRAUD_MLFLOW_TRACKING_URI", "http://127.0.0.1:5001")
    assert load_settings().registry == "http://127.0.0.1:5001"


def test_an_empty_variable_is_as_good_as_none(monkeypatch):
    monkeypatch.setenv("FRAUD_PORT", "")
    assert load_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FRAUD_PORT", "70000"),
        ("FRAUD_HOST", "not an address"),
        ("FRAUD_MODEL_POLL_SECONDS", "0"),
        ("FRAUD_FLAG_THRESHOLD", "1.5"),
        ("FRAUD_WORKERS", "0"),
    ],
)
def test_a_value_that_cannot_be_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


def test_thresholds_in_the_wrong_order_are_refused(monkeypatch):
    monkeypatch.setenv("FRAUD_FLAG_THRESHOLD", "0.8")
    monkeypatch.setenv("FRAUD_DECLINE_THRESHOLD", "0.2")
    with pytest.raises(SettingsError, match="should not be below FRAUD_FLAG_THRESHOLD"):
        load_settings()


def test_a_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("FRAUD_LOG_URL", "postgresql://ann:secret@host/log")
    monkeypatch.setenv("FRAUD_ADMIN_KEYS", "secret-of-sixteen-characters")
    assert "secret" not in repr(load_settings())


def test_with_keys_the_service_listens_everywhere_unless_told_otherwise(monkeypatch):
    monkeypatch.setenv("FRAUD_SCORE_KEYS", "a" * 16)
    assert load_settings().listens_on == "0.0.0.0"
    monkeypatch.setenv("FRAUD_HOST", "127.0.0.1")
    assert load_settings().listens_on == "127.0.0.1"


def test_keys_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("FRAUD_SCORE_KEYS", f"{'a' * 16}, {'b' * 16},")
    assert load_settings().keys_by_role == {"score": ("a" * 16, "b" * 16)}


@pytest.mark.parametrize("key", ["short", "ä" * 20, "with a\nline break in it"])
def test_a_weak_key_is_refused_and_not_repeated(monkeypatch, key):
    monkeypatch.setenv("FRAUD_SCORE_KEYS", key)
    with pytest.raises(SettingsError, match=r"FRAUD_SCORE_KEYS.*at least 16 printable ASCII") as refused:
        load_settings()
    assert key not in str(refused.value)


def test_an_unknown_variable_is_named_with_the_one_that_was_meant():
    found = unknown_variables({"FRAUD_WORKER": "2", "FRAUD_WORKERS": "2", "PATH": "x", "FRAUD_ZZZZZZ": "1"})
    assert found == [
        "FRAUD_WORKER is not a setting; did you mean FRAUD_WORKERS?",
        "FRAUD_ZZZZZZ is not a setting.",
    ]


def test_the_example_file_documents_every_setting_with_its_default():
    example = documented()
    defaults = load_settings()
    assert set(example) == {f"FRAUD_{name}".upper() for name in ServingSettings.model_fields}
    for name, shown in example.items():
        default = getattr(defaults, name.removeprefix("FRAUD_").lower())
        expected = {
            "FRAUD_LOG_URL": defaults.prediction_log,
            "FRAUD_MLFLOW_TRACKING_URI": defaults.registry,
        }.get(name, "" if default in (None, ()) else str(default))
        assert shown == expected, name


def test_the_command_ends_with_one_line_about_a_wrong_setting(tmp_path):
    environment = {**os.environ, "FRAUD_PORT": "abc", "FRAUD_ROOT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "serve"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("FRAUD_PORT: ")
    assert done.stderr.count("\n") == 1
