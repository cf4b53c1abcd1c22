"""What applications keep in sessions beside JSON.

objects.py write   prints pickled session dictionaries, one in hexadecimal on each line
objects.py check   reads lines "kind before after": pickles of dictionaries that have to be the same

Of kind "same" is what was written back as it was. In "changed" the first member was taken out and {"added": [1, "é"]}
put in. With "exact" what was one object twice has to be one object twice again, within each member.
"""
import collections
import datetime
import decimal
import enum
import fractions
import functools
import pickle
import re
import sys
import types
import uuid


class Thing:
    def __init__(self, **values):
        self.__dict__.update(values)


class Slotted:
    __slots__ = ("a", "b")


class Stateful:
    def __init__(self, value):
        self.value = value

    def __getstate__(self):
        return ("state", self.value)

    def __setstate__(self, state):
        assert state[0] == "state"
        self.value = state[1]


class Hashed:
    """Its hash needs its state: it must be whole before it goes into a set or a dictionary."""

    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        return isinstance(other, Hashed) and self.name == other.name

    def __repr__(self):
        return f"Hashed({self.name!r})"


class Keyworded:
    def __new__(cls, *, size):
        made = super().__new__(cls)
        made.size = size
        return made

    def __getnewargs_ex__(self):
        return (), {"size": self.size}


class Rows(list):
    pass


class Table(dict):
    pass


class Outer:
    class Inner:
        pass


class Color(enum.Enum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


def samples():
    shared = ["shared", (1,)]
    yield {"a": (shared, shared), "b": [(), shared], "plain": {"n": [1, 2.5, None, True, "é" * 300]}}
    circle = [()]
    circle.append(circle)
    yield {"circle": circle, "text": "x" * 70000, "tuple": ("x" * 70000,)}
    turned = ([], 1)
    turned[0].append(turned)
    yield {"turned": turned}
    thing = Thing(name="thing", day=datetime.date(2024, 2, 29))
    thing.self = thing
    yield {"thing": thing, "slots": slotted(), "stateful": Stateful((1, 2)), "kw": keyworded()}
    session = {"before": 1}
    session["session"] = session
    session["holder"] = Thing(of=session, also=[session, session])
    yield session
    one, other = Hashed("one"), Hashed("other")
    yield {"set": {one, other}, "frozen": frozenset([one]), "keys": {one: 1, other: [other]}, Hashed("key"): 1}
    ordered = collections.OrderedDict([("b", 1), ("a", (2,))])
    ordered["self"] = ordered
    yield {
        "ordered": ordered,
        "default": collections.defaultdict(list, {"a": [1]}),
        "counter": collections.Counter("hello"),
        "deque": collections.deque([1, (2,)], maxlen=5),
        "point": Point(1, [2]),
        "color": Color.RED,
    }
    rows, table = Rows([1, (2,)]), Table(a=1)
    rows.append(rows)
    rows.extra = table
    table[(1,)] = rows
    yield {"rows": rows, "table": table}
    yield {
        "zone": datetime.datetime(2024, 1, 2, 3, 4, 5, 6, datetime.timezone(datetime.timedelta(hours=2))),
        "times": [datetime.time(1, 2), datetime.timedelta(days=-1, microseconds=5)],
        "money": [decimal.Decimal("19.90"), decimal.Decimal("NaN"), fractions.Fraction(1, 3)],
        "id": uuid.UUID(int=5),
        "bytes": [b"", b"\x00\xff" * 200, bytearray(b"abc"), b"short", b"short"],
        "numbers": [complex(1, -2), float("nan"), float("-inf"), 1 << 70000, -(1 << 70000), -1],
        "range": [range(1, 9, 2), slice(1, None, 2), Ellipsis],
        "names": [int, len, Outer.Inner, functools.partial(int, base=2), types.SimpleNamespace(a=1)],
        "error": KeyError("a"),
        "\ud800": "\udfff",
        "half": "\ud800",
        1: "one",
        None: "none",
        (1, ("2",)): "tuple",
        2.5: "float",
    }
    yield {"deep": deep(150), "many": [(n, str(n)) for n in range(2500)]}
    yield {f"member {n}": (n, f"long enough to be remembered {n % 7}") for n in range(600)}


def slotted():
    made = Slotted()
    made.a, made.b = (1,), made
    return made


def keyworded():
    return Keyworded(size=(3,))


def deep(levels):
    value = ()
    for level in range(levels):
        value = [value] if level % 2 else (value,)
    return value


def same(one, other, seen, alive):
    if type(one) is not type(other):
        return False
    if one is None or isinstance(one, (bool, int, float, complex, str, bytes, type, types.BuiltinFunctionType)):
        return repr(one) == repr(other)
    if id(one) in seen:
        return seen[id(one)] is other
    if any(known is other for known in seen.values()) and one != ():
        return False
    seen[id(one)] = other
    if type(one) in (list, tuple):
        pairs = zip(one, other) if len(one) == len(other) else [(0, 1)]
    elif type(one) is dict:
        pairs = zip(flat(one), flat(other)) if len(one) == len(other) else [(0, 1)]
    elif type(one) in (set, frozenset):
        pairs = zip(sorted(one, key=repr), sorted(other, key=repr)) if one == other else [(0, 1)]
    else:
        reduced = [parts(value) for value in (one, other)]
        alive.append(reduced)
        return same(*reduced, seen, alive)
    return all(same(*pair, seen, alive) for pair in pairs)


def flat(mapping):
    return [part for item in mapping.items() for part in item]


def parts(value):
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return reduced
    items = [list(part) if part is not None and place > 2 else part for place, part in enumerate(reduced[1:], 1)]
    return [reduced[0].__name__] + items[:4]


def check(kind, before, after):
    one, other = pickle.loads(bytes.fromhex(before)), pickle.loads(bytes.fromhex(after))
    if kind == "changed":
        del one[next(iter(one))]
        one["added"] = [1, "é"]
    assert shown(list(one)) == shown(list(other)), (list(one), list(other))
    if kind != "exact":
        # What is plain data and the same object twice may become two; it looks the same.
        assert shown(one) == shown(other), (kind, one, other)
        return
    for (key, value), (other_key, other_value) in zip(one.items(), other.items()):
        assert type(key) is type(other_key)
        assert same(value, other_value, {id(one): other}, [one, other]), (key, value, other_value)


def shown(value):
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def main():
    sys.setrecursionlimit(10000)
    if sys.argv[1] == "write":
        for session in samples():
            for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
                try:
                    print(pickle.dumps(session, protocol).hex())
                except (TypeError, ValueError, RecursionError, pickle.PicklingError):
                    # The first protocols have no words for some.
                    assert protocol < 2, session
        return
    if hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(0)
    checked = 0
    for line in sys.stdin:
        check(*line.split())
        checked += 1
    print(checked)


main()
