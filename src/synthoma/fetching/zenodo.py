"""Sums, sizes and addresses that Zenodo states for its records."""

from dataclasses import replace

from synthoma.fetching.answers import PassingProblemError, connection_words, load_requests, refuse
from synthoma.fetching.conditions import Conditions
from synthoma.fetching.entries import RemoteFile
from synthoma.fetching.failure import FetchError


def described_by_zenodo(remote: RemoteFile, conditions: Conditions) -> RemoteFile:
    """The file with the address, size and MD5 sum that its Zenodo record states now.

    Format: developers.zenodo.org, records: files[].key, size, checksum ("md5:..."), links.self. Raises `FetchError`.
    """
    requests = load_requests()
    url = f"{conditions.zenodo_api}/{remote.zenodo}"
    problem = ""
    for attempt in range(conditions.attempts):
        if attempt:
            conditions.wait(attempt)
        try:
            response = requests.get(url, headers={"User-Agent": "synthoma"}, timeout=conditions.timeout)
        except requests.RequestException as error:
            problem = connection_words(requests, error)
            continue
        try:
            refuse(f"Zenodo record {remote.zenodo}", response)
        except PassingProblemError as passing:
            problem = str(passing)
            continue
        try:
            files = {file["key"]: file for file in response.json()["files"]}
            file = files[remote.name]
            return replace(remote, url=file["links"]["self"], size=int(file["size"]), checksum=_md5(file["checksum"]))
        except (ValueError, KeyError, TypeError) as error:
            raise FetchError(f"Zenodo record {remote.zenodo} does not describe {remote.name} as expected.") from error
    raise FetchError(f"Zenodo record {remote.zenodo}: {problem}. The same command tries again.")


def _md5(stated: str) -> str:
    algorithm, _, digits = stated.partition(":")
    if algorithm != "md5" or len(digits) != 32:
        raise ValueError(stated)
    return stated
