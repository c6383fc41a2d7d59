from __future__ import annotations

from fraud_kedro.serving.app import create_app
from fraud_kedro.serving.runtime import Runtime
from fraud_kedro.serving.settings import ServingSettings


def page(tmp_path, **settings):
    return create_app(Runtime(ServingSettings(root=tmp_path, **settings))).openapi()


def statuses(page, method, path):
    return set(page["paths"][path][method]["responses"])


def test_every_route_may_run_out_of_time_and_a_body_may_take_too_long(tmp_path):
    open_page = page(tmp_path)
    for path, methods in open_page["paths"].items():
        for method in methods:
            assert "504" in statuses(open_page, method, path)
            assert ("408" in statuses(open_page, method, path)) == (method == "post")
            assert not {"401", "429"} & statuses(open_page, method, path)
            # Another site's page may not upload, key or none.
            assert ("403" in statuses(open_page, method, path)) == (path == "/predict/batch")
    assert "securitySchemes" not in open_page["components"]


def test_keys_and_rates_are_described_where_they_are_set(tmp_path):
    guarded = page(tmp_path, score_keys="k" * 16, rate_limit=5)
    assert {"401", "403", "429"} <= statuses(guarded, "post", "/predict")
    assert {"401", "403", "429"} <= statuses(guarded, "get", "/model")
    assert guarded["paths"]["/predict"]["post"]["security"] == [{"key": []}, {"header": []}]
    assert not {"401", "403", "429"} & statuses(guarded, "get", "/livez")
    assert "security" not in guarded["paths"]["/livez"]["get"]
    limited = page(tmp_path, rate_limit=5)
    assert "429" in statuses(limited, "post", "/predict")
    assert "401" not in statuses(limited, "post", "/predict")
