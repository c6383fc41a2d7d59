"""What a request must look like, made from the schema of the model that serves.

Good requests are decoded by msgspec straight into a struct made for the schema.
Bad ones take a second, slower look that names every field and what is wrong
with it. Values are never repeated in messages: they may be card data.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from fraud_kedro.errors import BundleError
from fraud_kedro.prediction_log.tables import MAX_ID_LENGTH
from fraud_kedro.schema import ResolvedSchema, with_offset

TRANSACTION_ID = "transaction_id"

LARGEST = float(np.finfo(np.float32).max)
_SHOWN_ERRORS = 100
_SHOWN_NAME = 100
TIMESTAMP_EXAMPLE = "2026-01-05T13:45:00Z"


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with a request, in the form FastAPI gives its own.

    Attributes
    ----------
    type : str
        For programs: ``missing``, ``float_type``, ``finite_number``, ...
    loc : tuple
        Where: ``("body", "V3")``.
    msg : str
        For people.
    """

    type: str
    loc: tuple[str | int, ...]
    msg: str


class InvalidRequestError(Exception):
    """A request that cannot be scored, with every reason."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, e.loc))}: {e.msg}" for e in errors))
        self.errors = errors


class Transaction(NamedTuple):
    """A valid request.

    Attributes
    ----------
    transaction_id : str or None
        None where the client gave none.
    values : tuple of float
        Raw features in the schema's order; a timestamp as seconds from its origin.
    features : str
        JSON object of every one of these numbers, in one canonical form.
    request_hash : str
        Digest of `features`.
    event_time : datetime or None
        When it happened, where the schema knows its origin.
    """

    transaction_id: str | None
    values: tuple[float, ...]
    features: str
    request_hash: str
    event_time: datetime | None


# A class is a cycle, and what a swap leaves behind is never looked at by the collector.
@lru_cache(maxsize=16)
def _struct(
    features: tuple[str, ...], optional: tuple[str, ...], timestamp: str | None
) -> type[msgspec.Struct]:
    """The class of a transaction's fields: ``f0``, ``f1``, ... for the names, then its id."""
    names = {f"f{i}": name for i, name in enumerate((*features, *optional))}
    types = {field: datetime if name == timestamp else float for field, name in names.items()}
    fields = [*names]
    required: list[Any] = [(field, types[field]) for field in fields[: len(features)]]
    blank: list[Any] = [(field, types[field] | UnsetType, UNSET) for field in fields[len(features) :]]
    return msgspec.defstruct(
        "Transaction",
        [*required, *blank, (TRANSACTION_ID, str | UnsetType, UNSET)],
        rename={**names, TRANSACTION_ID: TRANSACTION_ID},
        forbid_unknown_fields=True,
        gc=False,
    )


class RequestFormat:
    """Decodes and checks requests for one schema.

    Parameters
    ----------
    schema : ResolvedSchema

    Raises
    ------
    BundleError
        If a feature is called ``transaction_id``, or a column has a name that
        JSON must escape.
    """

    def __init__(self, schema: ResolvedSchema) -> None:
        if TRANSACTION_ID in schema.features:
            raise BundleError(
                f"A feature is called {TRANSACTION_ID!r}, which is the id of a request. Rename the column."
            )
        unfit = [name for name in schema.columns if json.dumps(name, ensure_ascii=False) != f'"{name}"']
        if unfit:
            raise BundleError(
                f"Column {unfit[0]!r} has a quote, a backslash or a control character in its name, which a "
                "request cannot be checked for. Rename the column."
            )
        self.schema = schema
        self.features = schema.features
        # Known to the schema, not read by the model: logged if given.
        self.optional = tuple(
            name for name in dict.fromkeys((schema.time, schema.amount)) if name not in schema.features
        )
        self._known = {*self.features, *self.optional, TRANSACTION_ID}
        self._struct = _struct(self.features, self.optional, schema.time if schema.has_timestamps else None)
        self._decode: Callable[[bytes | msgspec.Raw], Any] = msgspec.json.Decoder(self._struct).decode
        self._encode = msgspec.json.Encoder().encode
        self._encode_lines = msgspec.json.Encoder().encode_lines
        self._count = len(self.features)
        self._time = (*self.features, *self.optional).index(schema.time)
        self._timestamps = schema.has_timestamps
        self._quotes = 2 * (self._count + (self._timestamps and self._time < self._count))
        self._origin = None if schema.time_origin is None else schema.time_origin.astimezone(UTC)
        # float32 takes what is left of time after its reduction.
        self.unbounded = {schema.time} if schema.time_use != "raw" else set()

    def decode(self, body: bytes, *, where: tuple[str | int, ...] = ("body",)) -> Transaction:
        """Decode one JSON object.

        Parameters
        ----------
        body : bytes
            UTF-8.
        where : tuple
            What the locations of errors start with.

        Raises
        ------
        InvalidRequestError
            With everything that is wrong with it.
        """
        try:
            found = self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequestError(self._explain(body, where) or [_syntax(error, where)]) from error
        *numbers, given = msgspec.structs.astuple(found)
        # Each name is quoted, and nothing else but id and timestamp: more quotes may be a name given twice.
        suspicious = body.count(b'"') != self._quotes
        if suspicious:
            suspicious = body.count(b'"') != self._expected_quotes(numbers, given)
        if self._timestamps and numbers[self._time] is not UNSET:
            numbers[self._time] = self.seconds(numbers[self._time])
            setattr(found, f"f{self._time}", numbers[self._time])
        values = tuple(numbers[: self._count])
        if given is not UNSET or suspicious:
            if suspicious or (given is not UNSET and not is_id(given)):
                errors = self._explain(body, where)
                if errors:
                    raise InvalidRequestError(errors)
            found.transaction_id = UNSET
        # No value is larger than their length as a vector, which takes one call.
        if math.hypot(*values) > LARGEST:
            errors = self._explain(body, where)
            if errors:
                raise InvalidRequestError(errors)
        content: bytes = self._encode(found)
        if b":-0.0," in content or b":-0.0}" in content:
            content = self._encode(_with_one_zero(found))
        return Transaction(
            transaction_id=None if given is UNSET else given,
            values=values,
            features=content.decode(),
            request_hash=_digest(content),
            event_time=None if self._origin is None else self.event_time(numbers[self._time], where),
        )

    def contents(self, rows: Iterable[Sequence[float | UnsetType]]) -> list[tuple[str, str]]:
        """Write what `decode` would of numbers that are checked already.

        Parameters
        ----------
        rows : iterable of sequences
            For each transaction `features`, then `optional`, which may be UNSET.

        Returns
        -------
        list of (features, request_hash)
        """
        lines = self._encode_lines([self._struct(*row) for row in rows]).split(b"\n")[:-1]
        return [(line.decode(), _digest(line)) for line in lines]

    def _expected_quotes(self, numbers: list[Any], given: Any) -> int:
        names = sum(number is not UNSET for number in numbers)
        timestamps = self._timestamps and numbers[self._time] is not UNSET
        return 2 * (names + timestamps) + (0 if given is UNSET else 4)

    def seconds(self, moment: datetime) -> float:
        """Seconds from the origin of a schema with timestamps."""
        assert self._origin is not None  # noqa: S101 - a schema with timestamps has one
        return (with_offset(moment) - self._origin).total_seconds()

    def event_time(self, seconds: Any, where: tuple[str | int, ...]) -> datetime | None:
        """When it happened, by the schema's origin.

        Raises
        ------
        InvalidRequestError
            If the seconds lie beyond the calendar.
        """
        if seconds is UNSET or self._origin is None:
            return None
        try:
            return self._origin + timedelta(seconds=seconds)
        except OverflowError as error:
            message = f"should be seconds from {self._origin:%Y-%m-%d} that lie within the calendar"
            raise InvalidRequestError(
                [FieldError("time_range", (*where, self.schema.time), message)]
            ) from error

    def _explain(self, body: bytes, where: tuple[str | int, ...]) -> list[FieldError]:
        """Say what is wrong, field by field; nothing if only the syntax is, or nothing."""
        repeated: list[str] = []

        def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for name, value in pairs:
                if name in found:
                    repeated.append(name)
                found[name] = value
            return found

        try:
            # Python limits the digits of an int; as a float a long one is merely too large.
            given = json.loads(bytes(body), object_pairs_hook=collect, parse_int=float)
        except (ValueError, RecursionError):
            return []
        if not isinstance(given, dict):
            return [FieldError("dict_type", where, f"should be an object, not {_kind(given)}")]
        missing = [name for name in self.features if name not in given]
        errors = [FieldError("missing", (*where, name), "is required") for name in missing]
        for name, value in given.items():
            problem = self.problem(name, value)
            if problem is not None:
                errors.append(FieldError(problem[0], (*where, _shown(name)), problem[1]))
        errors += [
            FieldError("repeated", (*where, name[:_SHOWN_NAME]), "is given more than once")
            for name in dict.fromkeys(repeated)
            if name in self._known
        ]
        return errors[:_SHOWN_ERRORS]

    def problem(self, name: str, value: Any) -> tuple[str, str] | None:
        """Say what kind of problem a field's value is, and in words; None if it is none."""
        if name == TRANSACTION_ID:
            if not isinstance(value, str):
                return "string_type", f"should be a string, not {_kind(value)}"
            if not is_id(value):
                return "string_id", f"should be 1 to {MAX_ID_LENGTH} printable characters"
            return None
        if name not in self._known:
            return "extra_forbidden", "is not a field of this model"
        if self._timestamps and name == self.schema.time:
            return (
                None
                if _is_moment(value)
                else ("datetime", f"should be a timestamp, such as {TIMESTAMP_EXAMPLE!r}")
            )
        if not isinstance(value, float):
            return "float_type", f"should be a number, not {_kind(value)}"
        if not math.isfinite(value):
            return "finite_number", "should be a finite number"
        if abs(value) > LARGEST and name not in self.unbounded:
            return "float_range", f"should lie between -{LARGEST:.6g} and {LARGEST:.6g}"
        return None


def _with_one_zero(found: msgspec.Struct) -> msgspec.Struct:
    """Make every negative zero a zero: formats differ in whether they know one, and ids go by content."""
    for name in found.__struct_fields__:
        if getattr(found, name) == 0:
            setattr(found, name, 0.0)
    return found


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def is_id(text: str) -> bool:
    """Whether a text can be the id of a transaction."""
    return 0 < len(text) <= MAX_ID_LENGTH and text.isprintable()


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(msgspec.convert(value, datetime), datetime)
    except msgspec.ValidationError:
        return False


def _shown(name: str) -> str:
    """A name that is unknown, as an answer can hold it: JSON's escapes can make half a character."""
    return name[:_SHOWN_NAME].encode(errors="replace").decode()


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case float():
            return "a number"
        case list():
            return "an array"
        case _:
            return "an object"


def _syntax(error: Exception, where: tuple[str | int, ...]) -> FieldError:
    reason = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
    return FieldError("json_invalid", where, f"should be a JSON object: {reason}")
