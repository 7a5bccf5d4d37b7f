"""Public data sets and weights, fetched when a person asks in so many words: with licence, sums, and resumed when broken."""

from synthoma.fetching.catalogue import catalogue, find_entry
from synthoma.fetching.conditions import Conditions, free_bytes
from synthoma.fetching.entries import Entry
from synthoma.fetching.failure import FetchError
from synthoma.fetching.job import Plan, fetch, plan_fetch
from synthoma.fetching.weights import WEIGHTS, find_weights, find_weights_entry, weights_folder, weights_remote

__all__ = [
    "WEIGHTS",
    "Conditions",
    "Entry",
    "FetchError",
    "Plan",
    "catalogue",
    "fetch",
    "find_entry",
    "find_weights",
    "find_weights_entry",
    "free_bytes",
    "plan_fetch",
    "weights_folder",
    "weights_remote",
]
