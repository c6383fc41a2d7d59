"""How points are drawn and when a trial is given up: the same for every process of a search."""

from __future__ import annotations

import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage


def open_study(name: str, storage: RDBStorage) -> optuna.Study:
    """Open a study, made if it is not there."""
    # What fails is told with its trial.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        # The first fold alone decides too much with so few frauds.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
        load_if_exists=True,
    )


def sampler(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimators over all parameters at once.

    Trials that other processes are running count as poor ones, so that no two
    processes try the same neighbourhood.
    """
    return TPESampler(seed=seed, multivariate=True, constant_liar=True)
