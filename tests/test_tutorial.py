"""The notebook of the documentation runs, in its short form, from images to a student that answers."""
import json
import os
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]


def test_every_cell(tmp_path, monkeypatch):
    monkeypatch.setenv('SHORT', '1')
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]))
    notebook = nbformat.read(ROOT / 'docs/en/tutorial.ipynb', 4)
    NotebookClient(notebook, timeout=300, kernel_name='python3', resources=dict(metadata=dict(path=tmp_path))).execute()
    summary = json.loads((tmp_path / 'out/summary.json').read_text())
    assert summary['images'] == 1297 and 0 <= summary['top1'] <= 100
    pictures = [output for cell in notebook.cells for output in cell.get('outputs', ())
                if 'image/png' in output.get('data', {})]
    assert len(pictures) == 4 and (tmp_path / summary['student']).is_file()


def test_its_outputs_are_those_of_the_long_form():
    """As the page shows them, without a path of the machine that it ran on."""
    text = (ROOT / 'docs/en/tutorial.ipynb').read_text()
    assert '"output_type": "error"' not in text and str(Path.home()) not in text and '/tmp/' not in text
    assert 'without a label in training: 9' in text
