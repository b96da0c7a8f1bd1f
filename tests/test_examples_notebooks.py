"""The notebooks among the examples run whole, each with a smaller model than a reader's."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(__file__).parents[1] / "examples"
SMALLER = {
    "masks": 'CLIPS, EPOCHS, BACKBONE = 4, 1, "test_resnet"',
    "compare": """
BACKBONE, EPOCHS, SEEDS, CONDITIONS = "test_resnet", 1, 1, []
RECIPE = {"data": "synthetic", "data_args": {"clips_per_class": 4}, "frames": 32, "bins": 32, "time_mask": 4, "freq_mask": 4}
""",
}


def test_every_notebook_is_tested_and_kept_without_outputs():
    """Outputs would be pictures in the history, and older than the code."""
    assert {path.stem for path in FOLDER.rglob("*.ipynb")} == set(SMALLER)
    for name in SMALLER:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        nbformat.validate(notebook)
        for cell in notebook.cells:
            assert not cell.get("outputs")
            assert cell.get("execution_count") is None


def executed(name, folder, code):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    (at,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
    notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(code))
    return nbclient.NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", ())]


def printed(notebook):
    return "".join(
        output.text for output in outputs(notebook) if output.output_type == "stream" and output.name == "stdout"
    )


def shown(notebook, kind):
    return [output.data[kind] for output in outputs(notebook) if kind in output.get("data", {})]


def test_masks(tmp_path, untrained):
    trained = executed("masks", tmp_path, SMALLER["masks"])
    assert len(shown(trained, "image/png")) == 2
    assert re.search(
        r"from clip to clip [\d.]+%, along time [\d.]+%, along frequency [\d.]+%\nThe mask ", printed(trained)
    )
    assert re.search(r"accuracy on the test clips: [\d.]+%", printed(trained))


def test_masks_of_a_run(tmp_path, untrained):
    of_a_run = executed("masks", tmp_path, f"RUN = {str(untrained)!r}")
    assert len(shown(of_a_run, "image/png")) == 2
    assert "accuracy" not in printed(of_a_run)


def test_compare(tmp_path):
    notebook = executed("compare", tmp_path, SMALLER["compare"])
    assert "2 runs: identity, clipnorm" in printed(notebook)
    (table,) = shown(notebook, "text/markdown")
    assert table == (tmp_path / "compare-notebook" / "compare.md").read_text(encoding="utf-8")
    assert "clipnorm, clean: " in printed(notebook)
