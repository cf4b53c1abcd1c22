"""What was changed to make requests cheaper, and kept."""

import dataclasses

from .builds import Build

# The settings of the compiler are tried on this commit.
TRIED = "64e545c"


@dataclasses.dataclass(frozen=True)
class Change:
    what: str
    before: Build
    after: Build
    # Keys of cases, as in compare/ours.py.
    cases: tuple[str, ...]
    # Whether idle connections are weighed too.
    idle: bool = False


def commit(what: str, before: str, after: str, *cases: str, idle: bool = False) -> Change:
    return Change(what, Build(before), Build(after), cases, idle)


def setting(what: str, variable: str, before: str, *cases: str) -> Change:
    """From another value of one of cargo's variables to what Cargo.toml says."""
    return Change(what, Build(TRIED, ((f"CARGO_PROFILE_RELEASE_{variable}", before),)), Build(TRIED), cases)


CHANGES = [
    commit("fewer allocations, map look-ups and texts on the road", "861296c", "37611b1", "plain", "get"),
    commit("memory from mimalloc", "37611b1", "5b844bc", "plain", "get"),
    commit("counts without shared cache lines or labels looked up", "5b844bc", "ac14901", "plain", "get"),
    commit("each header looked at once", "ac14901", "387e0f8", "plain", "get"),
    commit("session data kept as the header that it becomes", "387e0f8", "53649bd", "get", "memory"),
    commit("only long cookies deflated", "53649bd", "5193513", "signed_cookies"),
    commit("quiet connections taken back from hyper; no timer for each head", "06e7bf0", "52edab0", "plain", "get", idle=True),
    commit("one timer a connection for the waits for a backend", "d39a894", "ff352d3", "plain", "get"),
    commit("head and body sent as one piece", "5987a54", "d7e007f", "plain", "get"),
    commit("names kept inside their keys", "5e9bc77", "c6df208", "near_cache", "get"),
    commit("near cache: entries marked, hashed once, in one piece", "c6df208", "3cdf069", "near_cache"),
    commit("answers that ask for nothing pass without a plan", "3cdf069", "110cca5", "near_cache", "get"),
    commit("a request carried by a pointer; bytes kept for a second try", "110cca5", "fe63864", "plain", "near_cache", "get"),
    commit("smaller questions to Redis", "fe63864", "64e545c", "get", "update"),
    setting("fat LTO instead of thin", "LTO", "thin", "plain", "near_cache", "get"),
    setting("one codegen unit instead of 16", "CODEGEN_UNITS", "16", "plain", "near_cache", "get"),
]
