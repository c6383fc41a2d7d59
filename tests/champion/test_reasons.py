from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from fraud_kedro.algorithms.base import LabelledMatrix
from fraud_kedro.algorithms.model import to_onnx
from fraud_kedro.algorithms.registry import get_algorithm
from fraud_kedro.champion.bundle import SelfTest
from fraud_kedro.champion.reasons import Explainer
from fraud_kedro.champion.scorer import Scorer
from fraud_kedro.errors import ExplanationError
from fraud_kedro.schema import SECONDS_PER_DAY

METHODS = ("none", "platt", "beta", "isotonic")
WHOLE = [
    *(
        f"{name}-{m}"
        for name in ("logistic_regression", "random_forest", "lightgbm", "xgboost")
        for m in METHODS
    ),
    *(f"ensemble-{m}" for m in METHODS),
    "pair-platt",
]
LARGEST = float(np.finfo(np.float32).max)

every_candidate = pytest.mark.parametrize("name", WHOLE)
extreme = st.one_of(
    st.floats(-5, 5, width=32),
    st.floats(-LARGEST, LARGEST, width=32),
    st.sampled_from([0.0, -0.0, 1e-35, -1e-40, LARGEST, -LARGEST]),
)
rows_of_any_kind = st.lists(
    st.tuples(st.floats(0, SECONDS_PER_DAY - 1, width=32), *[extreme] * 5), min_size=1, max_size=8
)


@pytest.fixture(scope="module")
def background(transactions_of):
    return transactions_of(20, 5)


@pytest.fixture(scope="module")
def explained(candidates, bundle_of, background):
    """Scorer and explainer of each candidate, made when first asked for."""
    made = {}

    def of(name):
        if name not in made:
            bundle = bundle_of(candidates[name], background)
            made[name] = Scorer(bundle), Explainer(bundle)
        return made[name]

    return of


def explain_all(pair, rows):
    scorer, explainer = pair
    probabilities = scorer.probabilities(rows).astype(np.float64)
    return [explainer.explain(row[None], p) for row, p in zip(rows, probabilities, strict=True)]


@every_candidate
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of_any_kind)
def test_contributions_add_up_to_the_answered_log_odds_less_the_reference(explained, name, rows):
    scorer, explainer = explained(name)
    rows = np.array(rows, dtype=np.float32)
    probabilities = scorer.probabilities(rows).astype(np.float64)
    for row, probability in zip(rows, probabilities, strict=True):
        found = explainer.explain(row[None], probability)
        assert found.log_odds == pytest.approx(logit(probability), abs=1e-9)
        assert found.base + found.contributions.sum() == pytest.approx(logit(probability), abs=1e-4)
        assert np.isfinite(found.contributions).all()


@every_candidate
def test_what_is_rounded_away_is_small(explained, transactions_of, name):
    """Before rounding is shared out: where float32 can hold it, the graph and its explanation agree."""
    scorer, explainer = explained(name)
    rows = transactions_of(200, 6)
    probabilities = scorer.probabilities(rows).astype(np.float64)
    program = explainer._program
    exact = np.array([program.reference + program.shares(row).sum() for row in rows])
    middle = probabilities < 0.99
    assert middle.sum() > 100
    np.testing.assert_allclose(exact[middle], logit(probabilities[middle]), atol=5e-5)
    np.testing.assert_allclose(expit(exact), probabilities, atol=1e-6)


@every_candidate
def test_a_feature_the_model_does_not_use_contributes_nothing(explained, transactions_of, name):
    rows = transactions_of(20, 7)
    rows[:, -1] = np.linspace(-1e6, 1e6, 20)
    for found in explain_all(explained(name), rows):
        assert found.contributions[-1] == 0
        assert "Constant" not in [reason.feature for reason in found.top_reasons(6)]


@every_candidate
def test_the_background_itself_has_no_reasons(candidates, bundle_of, background, name):
    bundle = bundle_of(candidates[name], background[:1])
    scorer, explainer = Scorer(bundle), Explainer(bundle)
    probability = float(scorer.probabilities(background[:1])[0])
    found = explainer.explain(background[:1], probability)
    np.testing.assert_allclose(found.contributions, 0, atol=1e-12)
    assert found.base == pytest.approx(logit(probability), abs=1e-4)
    assert [r for r in found.top_reasons(3) if abs(r.contribution) > 1e-12] == []


def top_three(values):
    return [set(np.argsort(-np.abs(row), kind="stable")[:3]) for row in values]


def agreement(ours, theirs):
    return np.mean([len(a & b) / 3 for a, b in zip(top_three(ours), top_three(theirs), strict=True)])


@pytest.mark.parametrize("name", ["random_forest-beta", "lightgbm-isotonic", "xgboost-platt"])
def test_the_three_first_reasons_are_those_of_tree_shap(
    explained, candidates, transactions_of, background, name
):
    import shap

    rows = transactions_of(500, 8)
    explainer = shap.TreeExplainer(
        candidates[name].estimator, background, feature_perturbation="interventional"
    )
    theirs = np.asarray(explainer.shap_values(rows, check_additivity=False))
    theirs = theirs[:, :, 1] if theirs.ndim == 3 else theirs
    ours = np.array([found.contributions for found in explain_all(explained(name), rows)])
    # Calibration stretches a row's contributions all alike: nothing changes places. But shap rounds the
    # forest's thresholds to float32, which sends the values beside them to the other side.
    assert agreement(ours, theirs) >= (0.98 if name.startswith("random_forest") else 0.999)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("logistic_regression-platt", 0.999),
        ("ensemble-platt", 0.9),
        # So sharp a bend has no one slope: within one unit of log-odds it grows from 1 to 5.5.
        ("ensemble-isotonic", 0.8),
    ],
)
def test_the_three_first_reasons_are_those_of_the_definition(
    explained, transactions_of, background, shapley, name, least
):
    """Shapley values of the calibrated log-odds themselves, over every coalition: no rescaling there."""
    scorer, _ = explained(name)
    rows = transactions_of(500, 8)
    ours = np.array([found.contributions for found in explain_all(explained(name), rows)])
    theirs = shapley(lambda mixed: logit(scorer.probabilities(mixed).astype(np.float64)), rows, background)
    assert agreement(ours, theirs) >= least


def test_reasons_come_largest_first_with_value_and_sign(explained, transactions_of):
    (found,) = explain_all(explained("ensemble-platt"), transactions_of(1, 9))
    reasons = found.top_reasons(3)
    sizes = [abs(reason.contribution) for reason in reasons]
    assert sizes == sorted(sizes, reverse=True)
    assert len(reasons) == 3
    for reason in reasons:
        place = found.features.index(reason.feature)
        assert reason.contribution == found.contributions[place]
        assert reason.value == found.values[place]
    assert max(np.abs(found.contributions)) == sizes[0]
    assert found.top_reasons(0) == []


def test_a_typical_fraud_has_reasons_towards_fraud(explained):
    fraud = np.array([[40_000, 4.0, -4.0, 2.0, 300.0, 3.0]], dtype=np.float32)
    (found,) = explain_all(explained("ensemble-platt"), fraud)
    assert found.log_odds > found.base
    assert {"V1", "V2"} <= {r.feature for r in found.top_reasons(3) if r.contribution > 0}


def test_the_same_row_has_the_same_reasons_in_any_thread(
    candidates, bundle_of, explained, transactions_of, background
):
    rows = transactions_of(40, 10)
    pair = explained("ensemble-isotonic")
    once = [found.contributions for found in explain_all(pair, rows)]
    with ThreadPoolExecutor(8) as threads:
        many = list(threads.map(lambda _: [f.contributions for f in explain_all(pair, rows)], range(8)))
    again = bundle_of(candidates["ensemble-isotonic"], background)
    anew = [f.contributions for f in explain_all((Scorer(again), Explainer(again)), rows)]
    for other in (*many, anew):
        np.testing.assert_array_equal(other, once)


@pytest.mark.parametrize("time_use", ["raw", "none", "hour_of_day"])
def test_time_is_reduced_as_the_graph_does_it(
    small_models, bundle_of, transactions_of, small_schema, time_use
):
    schema = small_schema.model_copy(update={"time_use": time_use})
    model = replace(small_models["lightgbm"], schema=schema)
    rows = transactions_of(30, 11)
    bundle = bundle_of(model, schema.model_matrix(rows.astype(np.float64)), schema)
    explainer = Explainer(bundle)
    assert explainer.problem is None
    later = rows.copy()
    later[:, 0] += 3 * SECONDS_PER_DAY
    matrix = Scorer(bundle).matrix(later)
    found = explain_all((Scorer(bundle), explainer), matrix)
    assert any(f.contributions[0] != 0 for f in found) == (time_use != "none")


def test_a_model_that_never_splits_has_no_reasons(bundle_of, transactions_of, small_models):
    nothing = LabelledMatrix(np.zeros((200, 6), np.float32), np.arange(200) % 10 == 0, np.ones(200))
    stump = get_algorithm("xgboost").fit(nothing, {"num_boost_round": 5}, seed=1, n_jobs=1)
    model = replace(small_models["xgboost"], estimator=stump)
    assert "Expand" in {node.op_type for node in to_onnx(model).graph.node}
    rows = transactions_of(5, 12)
    for found in explain_all((Scorer(b := bundle_of(model, rows)), Explainer(b)), rows):
        assert not found.contributions.any()
        assert found.top_reasons(3) == []


def test_a_probability_of_another_row_is_refused(explained, transactions_of):
    scorer, explainer = explained("lightgbm-platt")
    row = transactions_of(1, 13)
    probability = float(scorer.probabilities(row)[0])
    for other in (probability * 1.1, 0.0, 1.0, float("nan")):
        with pytest.raises(ExplanationError, match="its explanation comes to the log-odds"):
            explainer.explain(row, other)


def changed(model, change):
    graph = onnx.load_model_from_string(model)
    change(graph.graph)
    return graph.SerializeToString()


def test_a_graph_with_an_operator_unknown_here_is_not_explained_and_says_why(
    make_bundle, tmp_path, logistic_graph
):
    def square(graph):
        graph.node[1].op_type = "Pow"

    model = changed(logistic_graph([0.1] * 30, -1.0), square)
    bundle = make_bundle(tmp_path / "b", model=model)
    explainer = Explainer(bundle)
    assert explainer.problem == (
        "The scores of this model cannot be explained: "
        "the operator Pow (products) on features is not covered."
    )
    with pytest.raises(ExplanationError, match="Pow"):
        explainer.explain(np.zeros((1, 30), np.float32), 0.5)


def test_a_graph_that_scores_differently_than_its_explanation_is_not_explained(make_bundle, tmp_path):
    rows = tuple(tuple(float(i) for i in range(30)) for _ in range(2))
    bundle = make_bundle(tmp_path / "b", self_test=SelfTest(rows=rows, probabilities=(0.5, 0.5)))
    assert "its graph answers the probability 0.5" in Explainer(bundle).problem


def test_a_bundle_without_rows_to_compare_with_is_not_explained(make_bundle, tmp_path):
    assert "no rows to compare with" in Explainer(make_bundle(tmp_path / "b", background=())).problem
    bundle = make_bundle(tmp_path / "c", background=[[1.0, 2.0]])
    assert "another number of features" in Explainer(bundle).problem


def test_a_linear_graph_of_other_make_is_explained_by_its_terms(make_bundle, tmp_path):
    bundle = make_bundle(tmp_path / "b")
    scorer, explainer = Scorer(bundle), Explainer(bundle)
    assert explainer.problem is None
    row = np.random.default_rng(1).normal(size=(1, 30)).astype(np.float32)
    probability = float(scorer.probabilities(row)[0])
    found = explainer.explain(row, probability)
    background = np.array(bundle.metadata.background)
    differences = row[0] - background.mean(axis=0)
    weights = [1e-6, *(0.3 * np.cos(i) for i in range(1, 29)), 1e-3]
    np.testing.assert_allclose(found.contributions, differences * weights, atol=1e-5)
