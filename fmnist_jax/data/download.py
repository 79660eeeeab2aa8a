"""Finds out in seconds what keeps this machine from the original files, where TFDS retries for minutes."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

import requests
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError

from fmnist_jax.errors import DataError, in_one_line

_TIMEOUT = 5.0  # seconds, to connect and between two reads
_REMEDY = (
    "give the folder that has it with --data.dir (or FMNIST_DATA_DIR), "
    "or put the four original .gz files into a folder and give that with --data.raw-dir (or FMNIST_RAW_DIR); "
    "they are available from https://github.com/zalandoresearch/fashion-mnist"
)


class RemoteFile(NamedTuple):
    """What is known about a file before it is fetched."""

    url: str
    size: int
    """Bytes."""
    sha256: str


def refuse_unreachable(file: RemoteFile, data_dir: Path) -> None:
    """Fetches a small file to check that the original files can be downloaded.

    Args:
      file: the file to fetch.
      data_dir: where the data set is missing, for the message.

    Raises:
      DataError: they cannot; the message names the proxy, if there is one, and the remedy.
    """
    missing = f"no Fashion-MNIST in {data_dir}, and"
    proxy = select_proxy(file.url, get_environ_proxies(file.url))
    via_proxy = f" through the proxy {_without_password(proxy)} (http_proxy, all_proxy)" if proxy else ""
    advice = f"fix or unset the proxy, {_REMEDY}" if proxy else f"connect to a network, {_REMEDY}"
    try:
        with requests.get(file.url, timeout=_TIMEOUT, stream=True) as response:
            content = response.raw.read(file.size + 1, decode_content=False)
    # HTTPError: from streamed reads, which requests does not wrap. ValueError: from a malformed proxy address.
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        cause = _root_cause(error)
        reason = in_one_line(_without_password(str(cause)) or type(cause).__name__)
        raise DataError(
            f"{missing} {urlparse(file.url).netloc} cannot be reached{via_proxy} ({reason}): {advice}"
        ) from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        kind = response.headers.get("content-type", "no content type")
        raise DataError(
            f"{missing} {file.url} sends something else{via_proxy} ({response.status_code} "
            f"{response.reason}, {kind}): {advice}"
        )


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def _root_cause(error: BaseException) -> BaseException:
    """The root cause beneath urllib3's and requests' errors, which says what happened in a few words."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
