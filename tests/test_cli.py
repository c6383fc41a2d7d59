from __future__ import annotations

import getpass

import click
import mlflow
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from kedro.config import MissingConfigException
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline

from fraud_kedro.champion.bundle import read_bundle
from fraud_kedro.champion.registry import Registry
from fraud_kedro.cli import _champion_before, _OneLineErrors, cli, expected_message
from fraud_kedro.errors import BundleError, DataError, FraudKedroError
from fraud_kedro.pipelines.export.options import Promotion
from fraud_kedro.pipelines.export.registration import apply_promotion


def raised(function, *arguments):
    """The exception that a function raises, with its traceback."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it is looked at
        function(*arguments)
    return caught.value


def wrapped(inner):
    """As Kedro wraps what a dataset raises."""
    try:
        raise inner
    except Exception as error:
        raise DatasetError("Failed while loading data from dataset X") from error


# Errors as messages


def test_the_projects_own_error_is_told_in_its_own_words():
    assert expected_message(DataError("No rows.")) == "No rows."


def test_it_is_found_below_kedros_wrapping():
    assert expected_message(raised(wrapped, BundleError("Damaged."))) == "Damaged."


def test_the_outermost_of_the_projects_errors_is_told():
    def layered():
        try:
            wrapped(DataError("The cause."))
        except DatasetError as error:
            raise FraudKedroError("table.csv: the cause.") from error

    assert expected_message(raised(layered)) == "table.csv: the cause."


def test_kedros_own_dataset_error_is_told_in_one_line():
    message = expected_message(raised(DataCatalog.from_config({"a": {"type": "no.Such"}}).get, "a"))
    assert message is not None
    assert "no.Such" in message
    assert "\n" not in message


def test_a_missing_configuration_is_told():
    assert expected_message(MissingConfigException("No files\n  of conf")) == "No files of conf"


def test_links_to_manuals_are_left_out():
    error = DatasetError(
        "A wrong value.\n    For further information visit https://errors.example/2/v/x\nEnd."
    )
    assert expected_message(error) == "A wrong value. End."


def test_a_wrong_pipeline_of_kedros_is_told():
    pipeline = Pipeline([Node(len, "a", "b", name="n")])
    message = expected_message(raised(pipeline.only_nodes, "nothing"))
    assert message is not None
    assert "nothing" in message


@pytest.mark.parametrize("error", [TypeError("x"), KeyError("x"), ValueError("x"), ZeroDivisionError("x")])
def test_a_defect_keeps_its_traceback(error):
    def fail():
        raise error

    assert expected_message(raised(fail)) is None


def test_a_value_error_of_another_library_is_a_defect():
    assert expected_message(raised(int, "x")) is None


def invoke_failing(error, *arguments):
    def fail():
        raise error

    command = _OneLineErrors(
        "fail", callback=fail, params=[click.Option(["--verbose"], is_flag=True, help="Traceback.")]
    )
    return CliRunner().invoke(command, list(arguments))


def test_an_expected_error_is_one_line_and_exit_code_one():
    result = invoke_failing(DataError("Mend the file."))
    assert result.exit_code == 1
    assert result.output == "Error: Mend the file. (traceback: --verbose, or logs/fraud_kedro.log)\n"


def test_its_traceback_goes_to_the_log(caplog):
    caplog.set_level("DEBUG", logger="fraud_kedro.cli")
    invoke_failing(DataError("Mend the file."))
    (record,) = [r for r in caplog.records if r.name == "fraud_kedro.cli"]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], DataError)


def test_with_verbose_the_error_is_raised_as_it_was():
    error = DataError("Mend the file.")
    assert invoke_failing(error, "--verbose").exception is error


def test_a_defect_is_never_shortened():
    error = ZeroDivisionError("a defect")
    assert invoke_failing(error).exception is error


def test_run_has_every_option_of_kedros_run_and_verbose():
    from kedro.framework.cli.project import run as kedro_run

    ours = {option for parameter in cli.commands["run"].params for option in parameter.opts}
    theirs = {option for parameter in kedro_run.params for option in parameter.opts}
    assert ours == theirs | {"--verbose"}


# The champion before this one


@pytest.mark.parametrize(
    ("moves", "current", "before"),
    [
        ([], 1, None),
        ([1], 1, None),
        ([1, 2], 2, 1),
        ([1, 2, 3], 3, 2),
        # Rolled back once: further back, and not to what was given up.
        ([1, 2, 3, 2], 2, 1),
        ([1, 2, 3, 2, 1], 1, None),
        ([1, 2, 1, 3], 3, 1),
        # Moved by other means since.
        ([1, 2], 3, 2),
    ],
)
def test_a_rollback_goes_to_the_champion_before(moves, current, before):
    assert _champion_before(current, moves) == before


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_rolling_back_again_and_again_comes_to_an_end_without_a_repetition(moves):
    current, seen = moves[-1], [moves[-1]]
    while (before := _champion_before(current, moves)) is not None:
        assert before not in seen
        seen.append(before)
        moves, current = [*moves, before], before


# kedro champion, on a real store


@pytest.fixture
def store(request, monkeypatch, tmp_path, real_registry, make_bundle):
    """Two versions in the registry below a root of the test's own."""
    bootstrap_project(request.config.rootpath)
    monkeypatch.chdir(request.config.rootpath)
    monkeypatch.setenv("FRAUD_ROOT", str(tmp_path))
    monkeypatch.delenv("FRAUD_MLFLOW_TRACKING_URI", raising=False)
    before = mlflow.get_tracking_uri()
    real_registry.register(make_bundle(tmp_path / "a", version=None))
    real_registry.register(make_bundle(tmp_path / "b", version=None, algorithm="lightgbm"))
    yield real_registry
    mlflow.set_tracking_uri(before)


@pytest.fixture
def registry(store):
    return Registry(store.uri)


def champion(*arguments):
    return CliRunner().invoke(cli, ["champion", *arguments])


def local_version(tmp_path):
    registration = read_bundle(tmp_path / "06_models" / "champion").registration
    assert registration is not None
    return registration.version


def test_set_moves_the_alias_renews_the_local_copy_and_records_who_and_why(registry, tmp_path):
    result = champion("set", "2", "--by", "ann", "--why", "a better one")
    assert result.exit_code == 0, result.output
    assert "Version 2 is the champion." in result.output
    assert registry.resolve("champion").version == local_version(tmp_path) == 2
    (move,) = registry.history()
    assert (move["version"], move["by"], move["why"]) == (2, "ann", "a better one")


def test_show_lists_versions_and_moves(registry):
    registry.set_alias("champion", 1, by="ann", why="first")
    result = champion("show")
    assert result.exit_code == 0, result.output
    assert "lightgbm" in result.output
    assert "champion -> 1 by ann: first" in result.output


def test_without_a_name_the_decision_is_the_users(registry):
    champion("set", "1", "--why", "first")
    assert registry.history()[0]["by"] == getpass.getuser()


def test_a_decision_needs_a_reason(registry):
    result = champion("set", "1")
    assert result.exit_code == 2
    assert "--why" in result.output
    assert registry.find("champion") is None


@pytest.mark.parametrize("command", [["set", "1"], ["approve"], ["rollback"]])
@pytest.mark.parametrize(("by", "why"), [("", "x"), ("  ", "x"), ("ann", ""), ("ann", " ")])
def test_a_blank_name_or_reason_is_refused(command, by, why):
    result = champion(*command, "--by", by, "--why", why)
    assert result.exit_code == 2
    assert "cannot be blank" in result.output


def test_a_version_that_does_not_exist_is_one_line(registry):
    result = champion("set", "9", "--why", "x")
    assert result.exit_code == 1
    assert "has no version 9" in result.output
    assert result.output.count("\n") == 1
    assert registry.find("champion") is None


def test_a_damaged_version_never_becomes_champion(registry, store, tmp_path):
    champion("set", "1", "--why", "first")
    (store.files(2) / "model.onnx").write_bytes(b"damaged")
    result = champion("set", "2", "--why", "x")
    assert result.exit_code == 1
    assert "Version 2 in the registry: model.onnx does not match its checksum" in result.output
    assert "Choose another version" in result.output
    assert "export the model again" in result.output
    assert str(tmp_path) not in result.output
    assert registry.resolve("champion").version == local_version(tmp_path) == 1


def test_approve_makes_the_waiting_challenger_champion(registry, tmp_path):
    registry.set_alias("champion", 1, by="ann", why="first")
    registry.set_alias("challenger", 2, by="gate", why="manual")
    result = champion("approve", "--by", "bob", "--why", "looked at the card")
    assert result.exit_code == 0, result.output
    assert registry.resolve("champion").version == local_version(tmp_path) == 2
    assert registry.find("challenger") is None
    assert registry.version(2).tags["champion.by"] == "bob"


def test_approve_repeats_the_gate_and_tells_that_the_champion_changed_since(registry):
    registry.set_alias("champion", 1, by="ann", why="first")
    waits = Promotion(
        outcome="challenger", algorithm="lightgbm", version=2, reigning_version=1, reason="worse by 0.1"
    )
    apply_promotion(registry, waits)
    result = champion("approve", "--why", "looked at it")
    assert "The gate said of version 2: challenger: worse by 0.1.\n" in result.output
    assert "has changed" not in result.output

    apply_promotion(registry, waits)
    again = champion("approve", "--why", "looked at it again")
    assert again.exit_code == 0, again.output
    said = "changed since: it was version 1 when version 2 was judged, now it is version 2."
    assert said in again.output


def test_without_a_challenger_there_is_nothing_to_approve(registry):
    result = champion("approve", "--why", "x")
    assert result.exit_code == 1
    assert "No challenger is waiting" in result.output


def test_rollback_returns_to_the_champion_before_and_then_has_nowhere_to_go(registry, tmp_path):
    for version in ("1", "2"):
        champion("set", version, "--why", f"number {version}")
    result = champion("rollback", "--why", "false alarms")
    assert result.exit_code == 0, result.output
    assert registry.resolve("champion").version == local_version(tmp_path) == 1
    again = champion("rollback", "--why", "more")
    assert again.exit_code == 1
    assert "no champion before version 1" in again.output
    assert (
        'version 2 was given up when version 1 was made the champion again ("false alarms")' in again.output
    )
    assert "kedro champion set VERSION" in again.output


def test_a_first_champion_has_none_before_it_that_could_have_been_given_up(registry):
    champion("set", "1", "--why", "first")
    result = champion("rollback", "--why", "x")
    assert "no champion before version 1 to go back to. " in result.output
