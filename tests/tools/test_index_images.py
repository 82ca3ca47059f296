"""tools/dataset_converters/index_images.py, interrupted."""
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path


def write_long_archive(path: Path, num: int = 100) -> None:
    """A tar file of images of a gigabyte each, which are holes on the disk: reading it takes a minute."""
    with open(path, 'wb') as file:
        for number in range(num):
            info = tarfile.TarInfo(f'n01/{number}.jpg')
            info.size = 2**30
            file.write(info.tobuf())
            file.seek(info.size, os.SEEK_CUR)
        file.write(bytes(10240))


def is_read(process: subprocess.Popen, path: Path) -> bool:
    """Whether a process has read into a file, past its first images."""
    for number in os.listdir(f'/proc/{process.pid}/fd'):
        try:
            if os.readlink(f'/proc/{process.pid}/fd/{number}') == str(path):
                position = Path(f'/proc/{process.pid}/fdinfo/{number}').read_text().split()[1]
                if int(position) > 2**28:
                    return True
        except FileNotFoundError:
            continue
    return False


def test_ctrl_c_does_not_wait_for_the_end_of_an_archive(tmp_path, start_tool):
    archive = tmp_path / 'photos.tar'
    write_long_archive(archive)
    process = start_tool('dataset_converters/index_images', archive, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not is_read(process, archive):
        time.sleep(.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and err == 'Interrupted: the same command goes on from here.\n', out + err
    assert not list(tmp_path.rglob('*.npz')), 'the archive was listed to its end'
    assert not (tmp_path / 'photos.index').exists()
