"""How values that failed their checks can be mended, as far as examples tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fraud_kedro.schema import ISO8601
from fraud_kedro.validation.parsing import Parser
from fraud_kedro.validation.report import Finding

_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d*)?\s*")
_DATE = re.compile(r"\s*\d{4}-\d{2}-\d{2}([Tt ].*)?")
_MOMENT = re.compile(r"\s*\d+[-/.:]\d+[-/.:].*")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?[\d.]*,\d+\s*")
_THOUSANDS = re.compile(r"\s*[-+]?\d{1,3}([,.' ]\d{3})+([.,]\d+)?\s*")
_FLAG = re.compile(r"\s*(true|false|yes|no|t|f|y|n)\s*", re.IGNORECASE)
_SIGN = re.compile(r".*[%$€£¥].*")


def mends(findings: Iterable[Finding], parser: Parser) -> list[str]:
    """Sentences for the end of an error message, each once.

    Parameters
    ----------
    findings : iterable of Finding
        What failed.
    parser : Parser
        Knows the roles and how text is read.
    """
    return list(dict.fromkeys(mend for finding in findings for mend in _of(finding, parser)))


def _of(finding: Finding, parser: Parser) -> Iterator[str]:
    resolved = parser.resolved
    written = [example.value for example in finding.examples if isinstance(example.value, str)]

    def some(pattern: re.Pattern[str]) -> bool:
        return any(pattern.fullmatch(value) for value in written)

    if finding.column == resolved.label and "missing" not in finding.check:
        yield f"Write {resolved.label!r} as 1 for fraud and 0 for legitimate."
    elif finding.column == resolved.time:
        yield from _of_time(finding, parser, some(_NUMBER), some(_DATE), some(_MOMENT))
    elif "number" not in finding.check:
        return
    elif parser.decimal == "." and some(_DECIMAL_COMMA) and not all(map(_THOUSANDS.fullmatch, written)):
        yield 'For decimal commas set the validator\'s option `decimal: ","` in the catalog.'
    elif parser.decimal != "." and some(_NUMBER):
        yield (
            f"The validator's option `decimal` is {parser.decimal!r}: "
            "remove it if numbers have decimal points."
        )
    elif some(_THOUSANDS):
        yield "Remove the signs between thousands."
    elif some(_FLAG):
        yield "Write flags as 1 and 0."
    elif some(_SIGN):
        yield "Write numbers without signs of percent or currency."


def _of_time(finding: Finding, parser: Parser, number: bool, date: bool, moment: bool) -> Iterator[str]:
    form = parser.resolved.time_format
    if "for seconds" in finding.check:
        yield "If it counts milliseconds, divide them by 1,000."
    elif finding.check.startswith("lies outside"):
        yield "A date that stands for an unknown one is no time of a transaction."
    elif not parser.resolved.has_timestamps:
        if moment:
            yield "If these are timestamps, set schema.time.format to iso8601 or to their pattern."
    elif number:
        yield "If it counts seconds, set schema.time.format to seconds."
    elif form != ISO8601 and date:
        yield "If these are ISO timestamps, set schema.time.format to iso8601."
    elif form == ISO8601 and "timestamp" in finding.check:
        yield (
            "iso8601 reads '2026-01-05T13:45:00Z'; for another way set schema.time.format to its pattern, "
            "such as '%d.%m.%Y %H:%M:%S'."
        )
