"""Values of Python as JSON. What JSON has no word for is an object with one member, named by its type."""

import datetime
import decimal
import uuid


class Basket:
    """An object of the application's own."""

    def __init__(self, content):
        self.content = content


WORDS = {
    "$basket": (Basket, lambda value: value.content, Basket),
    "$bytes": (bytes, bytes.hex, bytes.fromhex),
    "$date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "$datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "$decimal": (decimal.Decimal, str, decimal.Decimal),
    "$set": (set, sorted, set),
    "$timedelta": (
        datetime.timedelta,
        datetime.timedelta.total_seconds,
        lambda seconds: datetime.timedelta(seconds=seconds),
    ),
    "$tuple": (tuple, lambda value: [told(item) for item in value], lambda items: tuple(map(meant, items))),
    "$uuid": (uuid.UUID, str, uuid.UUID),
}


def told(value):
    """As the test is told."""
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: told(item) for key, item in value.items()}
        return {"$dict": [[told(key), told(item)] for key, item in value.items()]}
    if isinstance(value, list):
        return [told(item) for item in value]
    for word, (kind, tell, _) in WORDS.items():
        if type(value) is kind:
            return {word: tell(value)}
    return value


def meant(value):
    """As the test meant it."""
    if isinstance(value, dict):
        if len(value) == 1:
            [(word, content)] = value.items()
            if word == "$dict":
                return {meant(key): meant(item) for key, item in content}
            if word in WORDS:
                return WORDS[word][2](content)
        return {key: meant(item) for key, item in value.items()}
    if isinstance(value, list):
        return [meant(item) for item in value]
    return value
