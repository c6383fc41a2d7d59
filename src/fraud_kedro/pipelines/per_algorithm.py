"""One template, one instance per algorithm: how tuning, training and export are written once."""

from collections.abc import Sequence

from kedro.pipeline import Pipeline

from fraud_kedro.algorithms.registry import ALGORITHM_NAMES


def instantiate(
    template: Pipeline, *, own: set[str], names: Sequence[str] = ALGORITHM_NAMES
) -> list[Pipeline]:
    """Instances of a template whose datasets are named ``<algorithm>_<dataset>``.

    Parameters
    ----------
    template : Pipeline
        Its outputs belong to one algorithm; so do the parameters ``algorithm`` and
        ``budget`` where it uses them.
    own : set of str
        Its inputs that belong to one algorithm; the others are shared by all.
    names : sequence of str
        Of the instances.
    """
    return [_instance(template, own, name) for name in names]


def _instance(template: Pipeline, own: set[str], algorithm: str) -> Pipeline:
    shared = {name for name in template.inputs() if not name.startswith("params:")} - own
    parameters = {name for name in template.inputs() if name.startswith("params:")}
    own_parameters = {"params:algorithm", "params:budget"} & parameters
    return Pipeline(
        template,
        namespace=algorithm,
        inputs={name: name for name in shared} | {name: f"{algorithm}_{name}" for name in own},
        outputs={name: f"{algorithm}_{name}" for name in template.all_outputs()},
        parameters={name: name for name in parameters - own_parameters}
        | {name: name.replace("params:", f"params:{algorithm}.") for name in own_parameters},
        tags=algorithm,
    )


def grouped(pipelines: list[Pipeline], name: str) -> Pipeline:
    """The pipelines as one group of nodes, whose datasets keep their names."""
    return Pipeline(
        sum(pipelines, Pipeline([])), namespace=name, prefix_datasets_with_namespace=False, tags=name
    )
