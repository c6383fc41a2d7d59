from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fraud_kedro.errors import DataError, MissingInputError
from fraud_kedro.simulation import statistics
from fraud_kedro.simulation.statistics import statistics_of_profile, ulb_statistics


@pytest.fixture
def profile(ulb_profile: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(ulb_profile.read_text())
    return content


def test_the_command_derives_the_shipped_file_from_the_profile(ulb_profile: Path, tmp_path: Path) -> None:
    statistics.main([str(ulb_profile), str(tmp_path / "out.json")])
    shipped = Path(statistics.__file__).with_name(statistics.STATISTICS_FILE)
    assert (tmp_path / "out.json").read_bytes() == shipped.read_bytes()


def test_the_shipped_file_names_its_source_and_licence() -> None:
    assert "Worldline" in ulb_statistics().source
    assert "Database Contents License (DbCL) 1.0" in ulb_statistics().license


def test_shipped_shares_and_correlations_are_what_they_claim_to_be() -> None:
    for own in (ulb_statistics().legitimate, ulb_statistics().fraud):
        assert sum(own.hour_of_day_share) == pytest.approx(1, abs=1e-4)
        assert np.linalg.eigvalsh(own.correlation)[0] > 0
        assert np.all(np.diff(own.quantile_matrix, axis=1) >= 0)


def test_a_profile_without_a_part_is_refused_by_the_name_of_the_part(profile: dict[str, Any]) -> None:
    del profile["classes"]["fraud"]["quantiles"]
    with pytest.raises(DataError, match="quantiles"):
        statistics_of_profile(profile)


def test_falling_quantiles_are_refused_by_the_name_of_the_column(profile: dict[str, Any]) -> None:
    profile["classes"]["fraud"]["quantiles"]["V7"].reverse()
    with pytest.raises(DataError, match=r"fraud: quantiles that are too few or fall: \['V7'\]"):
        statistics_of_profile(profile)


def test_a_matrix_that_correlates_nothing_possible_is_refused(profile: dict[str, Any]) -> None:
    matrix = profile["classes"]["legitimate"]["normal_score_correlation"]
    matrix[0][1] = matrix[1][0] = -1.5
    with pytest.raises(DataError, match="legitimate: normal_score_correlation is not a positive definite"):
        statistics_of_profile(profile)


def test_levels_that_do_not_reach_from_0_to_1_are_refused(profile: dict[str, Any]) -> None:
    profile["quantile_levels"][-1] = 0.9999
    with pytest.raises(DataError, match="quantile_levels must rise from 0 to 1"):
        statistics_of_profile(profile)


def test_the_command_says_in_one_line_that_there_is_no_profile_or_that_it_is_no_json(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    with pytest.raises(MissingInputError, match=r"No profile at .*profile\.json"):
        statistics.main([str(profile), str(tmp_path / "out.json")])
    profile.write_text("{")
    with pytest.raises(DataError, match=r"profile\.json is no JSON: Expecting property name"):
        statistics.main([str(profile), str(tmp_path / "out.json")])
    assert list(tmp_path.iterdir()) == [profile]
