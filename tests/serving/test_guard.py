from __future__ import annotations

import base64

import pytest

from fraud_kedro.serving.guard import Guard
from fraud_kedro.serving.settings import ServingSettings

SCORE, FEEDBACK, ADMIN = "score-key-of-sixteen", "feedback-key-of-sixteen", "admin-key-of-sixteen"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def guard(clock):
    def make(**settings):
        return Guard(ServingSettings(**settings), clock)

    return make


@pytest.fixture
def keyed(guard):
    return guard(score_keys=SCORE, feedback_keys=FEEDBACK, admin_keys=ADMIN)


def request(path, method="POST", **headers):
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "path": path, "method": method, "headers": pairs}


def status(guard, *args, **headers):
    reply = guard.refuse(request(*args, **headers))
    return None if reply is None else reply.status


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/predict", "POST", {SCORE, ADMIN}),
        ("/predict/batch", "POST", {SCORE, ADMIN}),
        ("/predict/batch/template", "GET", {SCORE, ADMIN}),
        ("/score", "POST", {SCORE, ADMIN}),
        ("/score_batch", "POST", {SCORE, ADMIN}),
        ("/feedback", "POST", {FEEDBACK, ADMIN}),
        ("/model/reload", "POST", {ADMIN}),
        ("/monitoring/drift", "POST", {ADMIN}),
        ("/anything/new", "DELETE", {ADMIN}),
        ("/predict/", "POST", {ADMIN}),
        ("/model", "GET", {SCORE, FEEDBACK, ADMIN}),
        ("/metrics", "GET", {SCORE, FEEDBACK, ADMIN}),
        ("/docs", "GET", {SCORE, FEEDBACK, ADMIN}),
    ],
)
def test_a_route_is_for_those_with_its_role(keyed, path, method, allowed):
    for key in (SCORE, FEEDBACK, ADMIN):
        assert status(keyed, path, method, x_api_key=key) == (None if key in allowed else 403), key


@pytest.mark.parametrize("path", ["/predict", "/model", "/metrics", "/ui", "/docs", "/health", "/nothing"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "HEAD"])
def test_without_a_key_only_the_probes_answer(keyed, path, method):
    assert status(keyed, path, method) == 401
    assert status(keyed, "/livez", method) is None
    assert status(keyed, "/readyz", method) is None


def test_a_key_may_come_as_bearer_as_header_or_as_a_browsers_password(keyed):
    basic = base64.b64encode(f"analyst:{SCORE}".encode()).decode()
    assert status(keyed, "/predict", authorization=f"Bearer {SCORE}") is None
    assert status(keyed, "/predict", authorization=f"bearer  {SCORE} ") is None
    assert status(keyed, "/predict", authorization=f"Basic {basic}") is None
    assert status(keyed, "/predict", x_api_key=SCORE) is None


@pytest.mark.parametrize(
    "header",
    [
        {"authorization": "Bearer"},
        {"authorization": f"Digest {SCORE}"},
        {"authorization": "Basic not/base64!"},
        {"authorization": "Basic " + base64.b64encode(SCORE.encode()).decode()},
        {"authorization": f"Bearer {SCORE}x"},
        {"authorization": f"Bearer {SCORE[:-1]}"},
        {"x_api_key": ""},
    ],
)
def test_what_is_no_key_is_refused(keyed, header):
    assert status(keyed, "/predict", **header) == 401


def test_the_refusal_says_how_to_send_a_key(keyed):
    reply = keyed.refuse(request("/predict"))
    schemes = [value.split()[0] for name, value in reply.headers if name == b"www-authenticate"]
    assert schemes == [b"Bearer", b"Basic"]


def test_a_key_in_two_roles_has_both(guard):
    both = guard(score_keys=SCORE, feedback_keys=SCORE)
    assert status(both, "/predict", x_api_key=SCORE) is None
    assert status(both, "/feedback", x_api_key=SCORE) is None
    assert status(both, "/model/reload", x_api_key=SCORE) == 403


def test_without_keys_and_rate_everything_is_open(guard):
    assert guard().is_open
    assert status(guard(), "/model/reload") is None


def test_a_key_that_asks_too_often_waits_and_others_do_not(guard, clock):
    limited = guard(score_keys=SCORE, admin_keys=ADMIN, rate_limit=5)
    answers = [status(limited, "/predict", x_api_key=SCORE) for _ in range(7)]
    assert answers == [None] * 5 + [429] * 2
    assert status(limited, "/predict", x_api_key=ADMIN) is None
    reply = limited.refuse(request("/predict", x_api_key=SCORE))
    clock.now += reply.retry_after
    assert status(limited, "/predict", x_api_key=SCORE) is None


def test_over_a_long_time_the_rate_is_kept(guard, clock):
    limited = guard(rate_limit=3)
    passed = 0
    for _ in range(1000):
        clock.now += 0.05
        passed += status(limited, "/predict") is None
    assert passed == pytest.approx(3 * 50, abs=4)


def test_each_worker_gives_out_its_part_of_the_rate(guard):
    shared = guard(rate_limit=8, workers=4)
    assert [status(shared, "/predict") for _ in range(3)] == [None, None, 429]


def test_probes_spend_nothing(guard):
    limited = guard(rate_limit=1)
    assert [status(limited, "/readyz", "GET") for _ in range(5)] == [None] * 5
    assert status(limited, "/predict") is None
