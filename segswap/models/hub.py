"""Where a model lies: a file or folder here, or a repository of the Hugging Face hub, fetched to its cache."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from segswap.errors import InputError
from segswap.files import is_repository
from segswap.models.forms import CONFIG_NAME, WEIGHTS_NAME

SHIPPED = Path(__file__).parent / "shipped"
"""Folder of the model that is installed with the package; its card says what it is and has learned from."""

PREPROCESSOR_NAME = "preprocessor_config.json"
"""What a repository of a foreign network says of how pictures are prepared."""

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def locate(
    source: str | os.PathLike,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
) -> Path:
    """Return the file or folder of a model; nothing but a name ``owner/model`` is looked for in the hub.

    Args:
        source: file, folder, or repository of the hub. What exists here is taken, whatever it is called.
        revision: branch, tag or commit of the repository.
        cache_dir, token, local_files_only, force_download: as for ``huggingface_hub.snapshot_download``.

    Raises:
        InputError: when there is no such thing, or the hub cannot be asked and its cache does not have it.
    """
    if Path(source).exists():
        return Path(source)
    if not is_repository(source):
        raise InputError(
            f"{source}: no such file; expected a weight file (.pt, .pth, .safetensors), a folder that save_pretrained "
            "has written, or a model of the Hugging Face hub as owner/model"
        )
    repository = os.fspath(source)
    what = f"{repository}: no such file or folder, and as a model of the Hugging Face hub"
    if cache_dir is None and constants.HF_HUB_CACHE.startswith("~"):
        # A home folder that is not found stays as it is written, and would become a folder called ~ here.
        raise InputError(f"{what} there is no home folder to keep it in; name a folder in the variable HF_HOME")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=cache_dir,
                token=token,
                local_files_only=local_files_only,
                force_download=force_download,
                allow_patterns=[WEIGHTS_NAME, CONFIG_NAME, PREPROCESSOR_NAME],
                library_name="segswap",
            )
        )
    except LocalEntryNotFoundError:
        raise InputError(
            f"{what} it is not in the cache, and the hub was not reached (no network, or HF_HUB_OFFLINE is set). Load "
            "it once where there is a network, or copy the folder here and give its path"
        ) from None
    except GatedRepoError:
        raise InputError(f"{what} its owner must let you in: ask on its page, then log in: hf auth login") from None
    except RepositoryNotFoundError:
        raise InputError(
            f"{what} it does not exist, or is private. Look at the spelling, or log in: hf auth login"
        ) from None
    except RevisionNotFoundError:
        raise InputError(f"{what} it has no revision {revision!r}; look at its branches and tags") from None
    except HFValidationError as error:
        raise InputError(f"{what} it cannot exist: {_first_line(error)}") from None
    except (HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        raise InputError(f"{what} it could not be fetched ({_first_line(error)}); try again later") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
