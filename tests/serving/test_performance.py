from __future__ import annotations

import json

import pytest

from fraud_kedro.serving.documents import Performance


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_the_service_measures_performance_by_its_own_log_and_labels(
    start_server, make_bundle, transactions, tmp_path, request, database
):
    make_bundle(tmp_path / "06_models" / "champion")
    settings = {"label_maturity_days": 0, "review_cost": 1}
    if database == "postgresql":
        settings["log_url"] = request.getfixturevalue("postgres").database("performance")
    server = start_server(tmp_path, **settings)
    sent = transactions(200)
    answers = server.client.post("/predict/batch", json={"transactions": sent}).json()["predictions"]
    frauds = [answer["transaction_id"] for answer in answers[::5]]
    labels = [{"transaction_id": name, "label": 1} for name in (*frauds, "unknown")]
    assert server.client.post("/feedback", json={"labels": labels}).json()["unknown"] == ["unknown"]
    answer = server.client.get("/monitoring/performance?days=7&by=week")
    assert answer.status_code == 200, answer.text
    found = Performance.model_validate(answer.json())
    # Nothing is left out of what the page of the API describes.
    assert found.model_dump(mode="json").keys() == answer.json().keys()
    [version], [period] = found.versions, found.periods
    assert period.model_dump(exclude={"start", "end"}) == version.model_dump()
    silent = [a for a in answers if a["decision"] == "decline" and a["transaction_id"] not in frauds]
    assert (version.settled, version.frauds, version.waiting) == (200 - len(silent), 40, 0)
    caught = sum(answer["prediction"] for answer in answers[::5])
    assert version.figures.recall.value == pytest.approx(caught / 40)
    missed = sum(
        row["Amount"]
        for row, answer in zip(sent[::5], answers[::5], strict=True)
        if answer["decision"] == "approve"
    )
    reviewed = sum(answer["decision"] == "review" for answer in answers)
    assert version.figures.expected_cost.value == pytest.approx((missed + reviewed) / version.settled)
    assert (found.by, found.labels.maturity_days, found.labels_without_prediction) == ("week", 0, 1)
    for wrong in ("days=0", "by=month"):
        assert server.client.get(f"/monitoring/performance?{wrong}").status_code == 422


def test_a_log_that_cannot_be_read_is_said(start_server, tmp_path):
    (tmp_path / "prediction_log.db").write_text("no database")
    server = start_server(tmp_path)
    answer = server.client.get("/monitoring/performance")
    assert answer.status_code == 503
    assert json.loads(answer.text)["detail"].startswith("The prediction log at ")
