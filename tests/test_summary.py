from __future__ import annotations

import pytest

from fraud_kedro.champion.bundle import Metric, Thresholds
from fraud_kedro.champion.registry import RegisteredVersion
from fraud_kedro.pipelines.export.options import Limit, Promotion
from fraud_kedro.pipelines.training.options import Comparison, Difference, Evaluation
from fraud_kedro.summary import print_comparison, print_promotion, print_versions


def evaluation(algorithm, value):
    figures = {
        "average_precision": Metric(value=value, low=value - 0.1, high=value + 0.05),
        **{name: Metric(value=value / 2) for name in ("roc_auc", "precision", "recall", "f1")},
    }
    plain = {name: Metric(value=metric.value + 0.01) for name, metric in figures.items()}
    return Evaluation(
        algorithm=algorithm,
        parameters={},
        thresholds=Thresholds(flag=0.1, decline=0.9, policy="expected_cost"),
        validation=plain,
        test=figures,
    )


def promotion(outcome, reigning=1):
    return Promotion(
        outcome=outcome, algorithm="lightgbm", version=2, reigning_version=reigning, reason="[b] +0.01 [/b]"
    )


def test_the_comparison_shows_both_figures_of_each_algorithm_the_best_first(capsys):
    candidates = (evaluation("xgboost", 0.8), evaluation("lightgbm", 0.6))
    print_comparison(
        Comparison(
            objective="average_precision", champion="xgboost", reason="it is better", candidates=candidates
        )
    )
    output = capsys.readouterr().out
    lines = [line.split() for line in output.splitlines() if "validation" in line or " test " in line]
    assert "xgboost is chosen: it is better." in output
    assert output.index("xgboost") < output.index("lightgbm")
    assert [[cell for cell in line if cell.startswith("0.")][:2] for line in lines if "│" in line] == [
        ["0.8100", "0.4100"],
        ["0.8000", "0.4000"],
        ["0.6100", "0.3100"],
        ["0.6000", "0.3000"],
    ]
    assert "0.700 to 0.850" in output


def test_the_figure_of_another_objective_is_shown_as_well(capsys):
    saving = evaluation("xgboost", 0.8)
    saving = saving.model_copy(update={"test": {**saving.test, "savings": Metric(value=0.1234)}})
    print_comparison(Comparison(objective="expected_cost", champion="xgboost", candidates=(saving,)))
    output = capsys.readouterr().out
    assert "savings" in output
    assert "0.1234" in output


def test_the_comparison_says_which_differences_are_noise(capsys):
    candidates = (evaluation("xgboost", 0.8), evaluation("lightgbm", 0.6))
    difference = Difference(
        figure="roc_auc", first="xgboost", second="lightgbm", value=0.1, low=-0.1, high=0.3, verdict="noise"
    )
    print_comparison(
        Comparison(objective="roc_auc", champion="xgboost", candidates=candidates, differences=(difference,))
    )
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "Against xgboost, by roc_auc on test rows: lightgbm is not told apart from it (noise)."


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("promoted", "fraud_detection_lightgbm_v2 is the champion: [b] +0.01 [/b]."),
        ("challenger", "fraud_detection_lightgbm_v2 is challenger, version 1 stays the champion: "),
        ("rejected", "fraud_detection_lightgbm_v2 was rejected: "),
    ],
)
def test_the_decision_is_told_in_a_sentence_with_its_reason_as_written(capsys, outcome, said):
    print_promotion(promotion(outcome), root="data", env=None)
    assert said in capsys.readouterr().out


def test_a_challenger_without_a_champion_is_told_so(capsys):
    print_promotion(promotion("challenger", reigning=None), root="data", env=None)
    output = capsys.readouterr().out
    assert "is challenger, there is no champion yet" in output
    assert "None" not in output


def test_the_next_steps_can_be_typed_as_they_are(capsys):
    print_promotion(promotion("promoted"), root="data", env=None)
    plain = capsys.readouterr().out
    for command in ("  make serve ", "  kedro mlflow ui ", "  kedro viz ", "  kedro champion show "):
        assert command in plain
    print_promotion(promotion("promoted"), root="data/quick", env="quick")
    quick = capsys.readouterr().out
    for command in ("  FRAUD_ROOT=data/quick make serve ", "  kedro viz run --env quick "):
        assert command in quick


def version(number, *aliases, **tags):
    return RegisteredVersion(number, f"run{number}", tags, "runs:/x", aliases)


def test_versions_are_listed_with_aliases_figures_and_the_gates_word(capsys):
    versions = [
        version(2, "challenger", algorithm="xgboost", promotion="challenger: worse"),
        version(
            1, "champion", "shadow", algorithm="lightgbm", data_source="real", test_average_precision="0.87"
        ),
    ]
    print_versions(versions, [])
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("│")}
    assert "challenger: worse" in lines["2"]
    for shown in ("lightgbm", "real", "0.87", "champion, shadow"):
        assert shown in lines["1"]


def test_the_last_five_moves_are_shown_with_who_and_why(capsys):
    moves = [
        {"when": f"day {n}", "alias": "champion", "version": n, "by": "ann", "why": f"[{n}]"}
        for n in range(1, 7)
    ]
    print_versions(
        [], [*moves, {"when": "day 7", "alias": "challenger", "version": None, "by": "bob", "why": "x"}]
    )
    output = capsys.readouterr().out
    assert "day 6 champion -> 6 by ann: [6]" in output
    assert "day 7 challenger -> none by bob: x" in output
    assert "day 2" not in output


def test_the_decision_is_told_with_every_hard_limit(capsys):
    limits = {
        "latency_ms": Limit(value=0.031, at_most=5),
        "slice_recall_drop": Limit(value=0.25, at_most=0.2, where="below 10"),
    }
    print_promotion(promotion("rejected").model_copy(update={"limits": limits}), root="data", env=None)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "one row, ms 0.031, at most 5" in lines
    assert "less recall in the worst band of amounts (below 10) 0.25 (missed), at most 0.2" in lines
