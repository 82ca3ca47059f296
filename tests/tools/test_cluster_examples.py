"""The examples of docs/en/clusters.md do what they say, under a stand-in for the scheduler: its environment."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import tool_environment
from tiny_flow import contents, saving

from mmtinyvit.store.admin.copying import copy_store

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs/en/clusters.md').read_text()
DEADLINE = 240  # seconds


def block(language: str) -> str:
    return re.search(rf'^```{language}\n(.*?)^```', PAGE, re.DOTALL | re.MULTILINE)[1]


def slurm() -> tuple[str, list[dict[str, str]]]:
    """The script of the array, and what Slurm sets for two of its jobs."""
    script = block('bash')
    assert re.search(r'^#SBATCH --array=0-63 ', script, re.MULTILINE)
    return script, [dict(SLURM_ARRAY_TASK_ID=str(i), SLURM_ARRAY_TASK_COUNT='2', SLURM_ARRAY_TASK_MIN='0')
                    for i in range(2)]


def kubernetes() -> tuple[str, list[dict[str, str]]]:
    """The container's script, cut down to two parts, and what Kubernetes sets for its pods."""
    spec = yaml.safe_load(block('yaml'))['spec']
    container, = spec['template']['spec']['containers']
    assert spec['completionMode'] == 'Indexed' and container['command'] == ['bash', '-c']
    script, = container['args']
    assert f'--part /{spec["completions"]}' in script
    return script.replace(f'--part /{spec["completions"]}', '--part /2'), [
        dict(JOB_COMPLETION_INDEX=str(i)) for i in range(2)]


@pytest.mark.parametrize('example', [slurm, kubernetes])
def test_two_jobs_of_it(example, tmp_path, photos, teacher_checkpoint, saved_store, bucket, storage):
    """Both at once; paths and views are the test's, everything else stands as printed."""
    script, environments = example()
    saving(photos, tmp_path / 'unused', tmp_path / 'work', teacher_checkpoint).dump(tmp_path / 'save.py')
    url = f'{bucket}/store'
    for printed, ours in ((r'configs/teachers/\S+', tmp_path / 'save.py'), (r'\S+\.pth', teacher_checkpoint),
                          (r's3://\S+', url), (r'0:90', '0:2'), (r' --amp', ''), (r'\bpython\b', sys.executable)):
        script, found = re.subn(printed, str(ours), script)
        assert found == 1, printed
    jobs = [subprocess.Popen(['bash', '-c', script], cwd=ROOT, env=tool_environment() | environment,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for environment in environments]
    for job in jobs:
        out, _ = job.communicate(timeout=DEADLINE)
        assert job.returncode == 0, out
    copy_store(url, tmp_path / 'back')
    assert contents(tmp_path / 'back') == contents(saved_store)


def test_the_dockerfile_copies_what_is_here_and_starts_the_tool():
    """It is not built here."""
    lines = (ROOT / 'Dockerfile').read_text().replace('\\\n', ' ').splitlines()
    for line in lines:
        if line.startswith('COPY '):
            *sources, _ = line.split()[1:]
            assert all((ROOT / source).exists() for source in sources), line
        for file in re.findall(r'requirements/\S+', line if line.startswith('RUN') else ''):
            assert (ROOT / file).is_file(), file
    entry = [line for line in lines if line.startswith('ENTRYPOINT ')]
    program, script = yaml.safe_load(entry[0].removeprefix('ENTRYPOINT '))
    assert program == 'python' and os.access(ROOT / script, os.R_OK)
    needed = set(re.findall(r'requirements/\w+\.txt', ' '.join(lines)))
    assert {'requirements/torch.txt', 'requirements/remote.txt', 'requirements/ray.txt'} <= needed
