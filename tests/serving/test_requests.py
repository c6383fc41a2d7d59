from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fraud_kedro.errors import BundleError
from fraud_kedro.schema import EPOCH, ResolvedSchema
from fraud_kedro.serving.answers import encode
from fraud_kedro.serving.requests import InvalidRequestError, RequestFormat

ORIGIN = datetime(2013, 9, 1, tzinfo=UTC)
FEATURES = ("Time", "V1", "naïve name's %", "Amount")
LARGEST = float(np.finfo(np.float32).max)

FORMAT = RequestFormat(
    ResolvedSchema(
        time="Time",
        time_use="hour_of_day",
        time_origin=ORIGIN,
        amount="Amount",
        label="Class",
        features=FEATURES,
    )
)

seconds = st.floats(-1e9, 1e9)
numbers = st.one_of(st.floats(-LARGEST, LARGEST), st.integers(-(2**53), 2**53))
valid = st.fixed_dictionaries({"Time": seconds, **{name: numbers for name in FEATURES[1:]}})
identities = st.text(st.characters(codec="utf-8"), min_size=1, max_size=128).filter(str.isprintable)
any_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def problems(body):
    with pytest.raises(InvalidRequestError) as caught:
        FORMAT.decode(body if isinstance(body, bytes) else json.dumps(body).encode())
    return {error.loc[-1]: error.type for error in caught.value.errors}


@given(transaction=valid, identity=identities, indent=st.sampled_from([None, 2]), ascii_only=st.booleans())
def test_whatever_json_writes_is_read_back(transaction, identity, indent, ascii_only):
    body = json.dumps({**transaction, "transaction_id": identity}, indent=indent, ensure_ascii=ascii_only)
    found = FORMAT.decode(body.encode("utf-8"))
    assert found.values == tuple(float(transaction[name]) for name in FEATURES)
    assert found.transaction_id == identity
    assert json.loads(found.features) == transaction
    assert found.event_time == ORIGIN + timedelta(seconds=transaction["Time"])


@given(transaction=valid, order=st.permutations(FEATURES))
def test_the_hash_depends_on_the_values_alone(transaction, order):
    first = FORMAT.decode(json.dumps(transaction).encode())
    shuffled = {"transaction_id": "one", **{name: float(transaction[name]) for name in order}}
    second = FORMAT.decode(json.dumps(shuffled, indent=1).encode())
    assert first.request_hash == second.request_hash
    assert first.features == second.features
    changed = {**transaction, "V1": math.nextafter(float(transaction["V1"]), math.inf)}
    if changed["V1"] <= LARGEST:
        assert FORMAT.decode(json.dumps(changed).encode()).request_hash != first.request_hash


@pytest.mark.parametrize("zero", ["0", "0.0", "-0.0", "-0", "-0e5"])
def test_there_is_one_zero(zero):
    found = FORMAT.decode(
        f'{{"Time": {zero}, "V1": {zero}, "naïve name\'s %": -0.05, "Amount": {zero}}}'.encode()
    )
    plain = FORMAT.decode(encode({"Time": 0, "V1": 0, "naïve name's %": -0.05, "Amount": 0}))
    assert (found.request_hash, found.features) == (plain.request_hash, plain.features)


@given(body=st.one_of(st.binary(max_size=200), any_json.map(lambda v: json.dumps(v).encode())))
def test_whatever_comes_is_a_transaction_or_a_named_error(body):
    try:
        found, errors = FORMAT.decode(body), None
    except InvalidRequestError as error:
        found, errors = None, error.errors
    if found is None:
        assert errors
        assert all(e.loc[0] == "body" and e.msg for e in errors)
    else:
        assert len(found.values) == len(FEATURES)


@given(transaction=valid, name=st.sampled_from(FEATURES), value=any_json)
def test_a_field_is_accepted_exactly_when_it_is_a_finite_number(transaction, name, value):
    body = json.dumps({**transaction, name: value}).encode()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    limit = 1e9 if name == "Time" else LARGEST
    if is_number and math.isfinite(value) and abs(value) <= limit:
        assert FORMAT.decode(body).values[FEATURES.index(name)] == value
    elif name != "Time" or not is_number:
        assert list(problems(body)) == [name]


@given(transaction=valid, name=st.sampled_from(FEATURES))
def test_a_missing_field_is_named(transaction, name):
    del transaction[name]
    assert problems(transaction) == {name: "missing"}


@given(transaction=valid, name=st.sampled_from(FEATURES), escaped=st.booleans())
def test_a_field_given_twice_is_named_however_it_is_written(transaction, name, escaped):
    key = json.dumps(name)
    if escaped:
        key = '"' + "".join(f"\\u{ord(c):04x}" for c in name) + '"'
    body = f"{json.dumps(transaction)[:-1]}, {key}: 1}}"
    assert problems(body.encode()) == {name: "repeated"}


@given(name=st.text(max_size=200).filter(lambda n: n not in {*FEATURES, "transaction_id"}))
def test_a_field_of_another_table_is_named(name):
    assert problems({**dict.fromkeys(FEATURES, 1.0), name: 1}) == {name[:100]: "extra_forbidden"}


def test_half_a_character_in_a_name_is_answered_with_a_mark_in_its_place():
    body = b'{"\\ud800": 1}'
    with pytest.raises(InvalidRequestError) as caught:
        FORMAT.decode(body)
    assert json.loads(encode(caught.value.errors))[-1]["loc"] == ["body", "?"]


def test_long_lists_of_errors_are_cut():
    with pytest.raises(InvalidRequestError) as caught:
        FORMAT.decode(json.dumps({f"x{i}": 1 for i in range(5_000)}).encode())
    assert len(caught.value.errors) == 100


@pytest.mark.parametrize("digits", ["9" * 400, "9" * 10_000, f"1{'0' * 39}", "1e39"])
def test_a_number_beyond_float32_is_named(digits):
    body = json.dumps(dict.fromkeys(FEATURES, 1.0)).replace('"V1": 1.0', f'"V1": {digits}')
    assert list(problems(body.encode())) == ["V1"]


def test_time_may_be_given_though_the_model_does_not_read_it():
    own = RequestFormat(
        ResolvedSchema(
            time="Time", time_use="none", time_origin=ORIGIN, amount="Amount", label="Class", features=("V1",)
        )
    )
    found = own.decode(b'{"V1": 1, "Time": 60, "Amount": 5}')
    assert found.values == (1.0,)
    assert json.loads(found.features) == {"V1": 1.0, "Time": 60.0, "Amount": 5.0}
    assert found.event_time == ORIGIN + timedelta(minutes=1)
    assert own.decode(b'{"V1": 1}').event_time is None
    assert own.decode(b'{"V1": 1}').request_hash != found.request_hash
    with pytest.raises(InvalidRequestError):
        own.decode(b'{"V1": 1, "Time": null}')


def test_without_an_origin_there_is_no_event_time():
    own = RequestFormat(
        ResolvedSchema(time="Time", time_use="raw", amount="Amount", label="Class", features=("Time",))
    )
    assert own.decode(b'{"Time": 5}').event_time is None


def test_a_feature_cannot_be_called_as_the_id_is():
    with pytest.raises(BundleError, match="Rename the column"):
        RequestFormat(
            ResolvedSchema(
                time="Time", time_use="raw", amount="A", label="Class", features=("A", "transaction_id")
            )
        )


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline"])
def test_a_column_that_json_must_escape_is_refused_with_the_model(name):
    with pytest.raises(BundleError, match="Rename the column"):
        RequestFormat(
            ResolvedSchema(time="Time", time_use="raw", amount="A", label="Class", features=("A", name))
        )


# Timestamps in place of seconds


STAMPED = RequestFormat(
    ResolvedSchema(
        time="bought_at",
        time_format="%d.%m.%Y %H:%M",
        time_use="hour_of_day",
        time_origin=EPOCH,
        amount="total",
        label="fraud",
        features=("score", "bought_at"),
    )
)
moments = st.datetimes(
    timezones=st.none() | st.timezones() | st.just(timezone(timedelta(hours=23, minutes=59)))
)


@given(moment=moments, total=st.none() | st.floats(0, 1e6), identity=st.none() | identities)
def test_a_timestamp_becomes_seconds_from_the_origin(moment, total, identity):
    offset = moment.utcoffset()
    assume(offset is None or offset.total_seconds() % 60 == 0)
    given_fields = {"transaction_id": identity, "total": total}
    body = {"score": 0.5, "bought_at": moment.isoformat()}
    body |= {name: value for name, value in given_fields.items() if value is not None}
    expected = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH

    found = STAMPED.decode(json.dumps(body).encode())

    assert found.values == (0.5, expected.total_seconds())
    assert json.loads(found.features)["bought_at"] == expected.total_seconds()
    assert found.transaction_id == identity
    assert abs(found.event_time - (EPOCH + expected)) < timedelta(milliseconds=1)


def test_the_same_moment_is_the_same_transaction():
    stamps = ("2026-01-05T13:45:00Z", "2026-01-05T14:45:00+01:00", "2026-01-05T13:45:00")
    bodies = [json.dumps({"score": 1, "bought_at": stamp}).encode() for stamp in stamps]
    assert len({STAMPED.decode(body).request_hash for body in bodies}) == 1


@pytest.mark.parametrize(
    "value", [0, 1.5e9, "yesterday", "2026-13-01T00:00:00Z", "", None, True, ["x"], "12:00"]
)
def test_what_is_no_timestamp_is_told_by_its_field(value):
    with pytest.raises(InvalidRequestError) as caught:
        STAMPED.decode(json.dumps({"score": 1, "bought_at": value}).encode())
    (error,) = caught.value.errors
    assert error.loc == ("body", "bought_at")
    assert "2026-01-05T13:45:00Z" in error.msg


def test_a_timestamp_given_twice_is_told():
    body = b'{"score": 1, "bought_at": "2026-01-05T13:45:00Z", "bought_at": "2026-01-05T13:45:00Z"}'
    with pytest.raises(InvalidRequestError) as caught:
        STAMPED.decode(body)
    assert [error.type for error in caught.value.errors] == ["repeated"]


def test_a_timestamp_the_model_does_not_read_may_be_left_out():
    schema = STAMPED.schema.model_copy(update={"features": ("score",)})
    decode = RequestFormat(schema).decode
    assert decode(b'{"score": 1}').event_time is None
    found = decode(b'{"score": 1, "bought_at": "1970-01-02T00:00:00Z"}')
    assert found.values == (1.0,)
    assert found.event_time == EPOCH + timedelta(days=1)


def test_another_model_of_the_same_schema_leaves_no_class_behind():
    before = len(msgspec.Struct.__subclasses__())
    for _ in range(3):
        RequestFormat(FORMAT.schema)
    assert len(msgspec.Struct.__subclasses__()) == before
