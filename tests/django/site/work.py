"""Operations on a session, as JSON: a list with the name and what it takes."""

from values import meant, told


def play(session, operations):
    """What each operation gave."""
    return [told(one(session, *map(meant, operation))) for operation in operations]


def one(session, name, *given):
    if name == "set":
        session[given[0]] = given[1]
        return None
    if name == "del":
        del session[given[0]]
        return None
    if name == "append":
        session[given[0]].append(given[1])
        session.modified = True
        return None
    if name in ("keys", "values", "items"):
        return list(getattr(session, name)())
    if name in (
        "clear",
        "create",
        "cycle_key",
        "delete",
        "flush",
        "get",
        "get_expire_at_browser_close",
        "get_expiry_age",
        "is_empty",
        "pop",
        "save",
        "set_expiry",
        "setdefault",
        "update",
    ):
        return getattr(session, name)(*given)
    raise ValueError(f"no operation is called {name}")


def items(session):
    return {key: told(value) for key, value in session.items()}
