"""Files are whole or not there, and what the system says names them."""

import errno
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from valle.audio import write_wav
from valle.errors import explained
from valle.files import replacing


def test_a_file_appears_whole_and_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with replacing(path) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text and list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("a")
    assert (tmp_path / "folder" / "a").is_file() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_and_no_other(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)), replacing(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a") as temporary:
        temporary.symlink_to("/dev/full")
        temporary.write_text("a")
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []
    expected = f"cannot write {tmp_path}/a: no space left on device; free some space, then run the same command again"
    assert explained(caught.value) == expected


@pytest.fixture
def small_files() -> Iterator[None]:
    """The system refuses to let a file grow above 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _text(path: Path) -> None:
    path.write_text("a" * 9999)


def _safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(9999)}, path)


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(9999)


def _wav(path: Path) -> None:
    write_wav(path, np.zeros(9999, np.float32), 16000)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("write", [_text, _safetensors, _hdf5, _wav])
def test_whatever_library_writes_the_systems_error_names_the_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a") as temporary:
        write(temporary)
    assert caught.value.errno == errno.EFBIG and "/a" in caught.value.filename.replace("/.a", "/a") and list(tmp_path.iterdir()) == []


def test_other_mistakes_stay_what_they_are() -> None:
    assert explained(FileNotFoundError(errno.ENOENT, "No such file or directory", "a")) is None
    assert explained(OSError("no number")) is None
