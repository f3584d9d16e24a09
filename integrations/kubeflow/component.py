"""A component of Kubeflow Pipelines 2: a folded model, its report as a page, its figures.

folded = fold(model=trained.outputs["model"], options={"target": "tensorrt-11"})
"""

from kfp import dsl

# Where you keep the wheel, which `pip wheel --no-deps .` makes in a checkout of bnfold.
WHEEL = "https://files.example.com/bnfold-0.1.0-py3-none-any.whl"


@dsl.component(base_image="python:3.12-slim", packages_to_install=[WHEEL])
def fold(
    model: dsl.Input[dsl.Model],
    folded: dsl.Output[dsl.Model],
    report: dsl.Output[dsl.HTML],
    figures: dsl.Output[dsl.Metrics],
    options: dict = {},  # noqa: B006  Kubeflow wants the default itself
) -> None:
    """Fold an ONNX model. The step fails, with the sentence in its log, where bnfold writes no model.

    Args:
        model: the ONNX file, or the folder of one with external data, in which it is named model.onnx.
        folded: a folder with model.onnx, its external data and model.onnx.sha256.
        report: the report as a page.
        figures: BatchNormalizations, operators and bytes before and after.
        options: fields of folding.Options.
    """
    from pathlib import Path  # noqa: PLC0415  Kubeflow takes the function out of this file

    import folding  # noqa: PLC0415

    source, result = Path(model.path), Path(folded.path)
    result.mkdir(parents=True, exist_ok=True)
    chosen = folding.Options(**{"digest": True, "card": True, **options})
    outcome = folding.fold(source / "model.onnx" if source.is_dir() else source, result / "model.onnx", chosen)
    Path(report.path).write_text(outcome.to_html(), encoding="utf-8")
    for name in ("bn_before", "bn_after", "nodes_before", "nodes_after", "bytes_before", "bytes_after"):
        figures.log_metric(name, getattr(outcome, name))
    folded.metadata["verification"] = outcome.verification.status
    folded.metadata["sha256"] = {one.name: one.sha256 for one in outcome.digests}
