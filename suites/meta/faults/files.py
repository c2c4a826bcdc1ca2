"""Files gone wrong in the ways files go wrong: hypothesis strategies that start from a sound file's bytes."""

import json

from hypothesis import strategies as st

DEEP, DIGITS = 5_000, 5_000


def _nested(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


ODD_TEXTS = ("", " ", "\0", "\x1b[31mred", "a\nb", "\ud800", "\u202e", "\u2028", "x" * 3_000, "../..", "--", "a--b.C")
ODD_NUMBERS = (0, -1, 1, 2**31, 2**63, 10**200, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf"))
ODD_GROUPS = ([], {}, [[]], {"": None}, [None, "a", 1], {"a": {"b": []}}, _nested(100), _nested(400), ["x" * 3_000] * 3)
ODD_VALUES = (*ODD_TEXTS, *ODD_NUMBERS, *ODD_GROUPS, None, True, False)
ODD_BYTES = (b"", b"\0", b"\xff", b"\xef\xbb\xbf", b"\x1b[2J", b"\r", b"\n", b'"', b"]", b"}", b"{", b"NaN", b"1e999")
ODD_BYTES = (*ODD_BYTES, b"[" * DEEP, b'{"a":' * DEEP, b"9" * DIGITS)
ODD_TOML = (
    *('""', '" "', '"\\u0000"', '"\\u001b[31m"', '"""a\nb"""', '"a\\nb"', "''", "[]", "{}", "[[]]", '[""]', "[1]"),
    *("true", "0", "-1", "1", "9223372036854775807", "9" * 400, "9" * DIGITS, "0.5", "nan", "inf", "-inf", "1e999"),
    *("1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "[" * DEEP, "a.b", '"' + "x" * 3_000 + '"', "'['", "'*'"),
    *("{a = 1}", '[{a = "b"}]', "[[1, [2]]]", "[" * 100 + "]" * 100, '{"\\u001b[31m" = 1}', "'\\'", "0x" + "f" * 600),
)


def _paths(value, path=()):
    """The place of everything in a JSON value, as tuples of keys and numbers."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from _paths(item, (*path, key))


def _changed(value, path, change):
    """A copy of `value` where `change(holder, key)` was done at `path`; without a path what it makes of the whole."""
    root = {"": json.loads(json.dumps(value))}
    holder, key = root, ""
    for step in path:
        holder, key = holder[key], step
    change(holder, key)
    return root.get("")


_ODD = st.one_of(*[st.sampled_from(ODD_VALUES)] * 3, st.text(max_size=8), st.one_of(st.integers(), st.floats()))


@st.composite
def _mutated_value(draw, value):
    """A JSON value with one to three places dropped, renamed, given another type, nested or doubled."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(_paths(value))))
        what = draw(st.sampled_from(["drop", "rename", "retype", "nest", "move"]))
        odd = draw(_ODD)
        other = draw(st.sampled_from(list(_paths(value))))

        def change(holder, key, what=what, odd=odd, other=other, value=value):
            if what == "drop" and (key or isinstance(holder, list)):
                del holder[key]
            elif what == "rename" and isinstance(holder, dict) and key:
                holder[str(odd)] = holder.pop(key)
            elif what == "nest":
                holder[key] = [holder[key]] if isinstance(odd, str) else {"a": holder[key]}
            elif what == "move":
                found = value
                for step in other:
                    found = found[step]
                holder[key] = json.loads(json.dumps(found))
            else:
                holder[key] = odd

        value = _changed(value, path, change)
        if not isinstance(value, dict | list):
            break
    return value


@st.composite
def _damaged(draw, data):
    """Bytes cut short, with others in place of some, or with a part of them twice."""
    start, end = sorted((draw(st.integers(0, len(data))), draw(st.integers(0, len(data)))))
    what = draw(st.sampled_from(["cut", "splice", "twice", "insert"]))
    piece = draw(st.one_of(st.sampled_from(ODD_BYTES), st.binary(max_size=12)))
    if what == "cut":
        return data[:start]
    if what == "twice":
        return data[:end] + data[start:]
    return data[:start] + piece + data[start if what == "insert" else min(end, start + 40) :]


def _raw():
    return st.one_of(st.binary(max_size=200), st.sampled_from(ODD_BYTES))


def _doubled(data):
    """A JSON text whose first object has its first key twice."""
    head, brace, rest = data.partition(b'{"')
    key = rest.partition(b'"')[0]
    return head + brace + key + b'": 0, "' + rest if brace else data


def json_files(data):
    """Mutations of a JSON file."""
    value = _mutated_value(json.loads(data)).map(lambda value: json.dumps(value).encode())
    return st.one_of(value, value, value, value.map(_doubled), value.flatmap(_damaged), _damaged(data), _raw())


@st.composite
def _mutated_line(draw, data):
    """A JSON Lines file with one of its lines mutated."""
    lines = data.splitlines()
    place = draw(st.integers(0, len(lines) - 1))
    lines[place] = draw(json_files(lines[place]))
    return b"\n".join(lines) + draw(st.sampled_from([b"\n", b""]))


def json_lines(data):
    """Mutations of a JSON Lines file."""
    return st.one_of(_mutated_line(data), _mutated_line(data), _damaged(data), _raw())


@st.composite
def _mutated_toml(draw, data):
    """A TOML file with one to three lines dropped, doubled, moved, renamed or given another value."""
    lines = data.decode().splitlines()
    spoken = [number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(spoken))
        what = draw(st.sampled_from(["drop", "double", "rename", "retype", "retype", "other"]))
        name, sign, _ = lines[place].partition("=")
        odd = draw(st.sampled_from(ODD_TOML))
        if what == "drop":
            lines[place] = ""
        elif what == "double":
            lines[place] = f"{lines[place]}\n{lines[place]}"
        elif what == "other":
            lines[place] = lines[draw(st.sampled_from(spoken))]
        elif what == "rename" or not sign:
            word = draw(st.sampled_from(["x", '"\\u001b[31m"', '""', "a.b.c", "like", ".".join("a" * 4_000)]))
            lines[place] = f"{word} ={lines[place].partition('=')[2]}" if sign else f"[{word}]"
        else:
            lines[place] = f"{name}= {odd}"
    return "\n".join(lines).encode()


def toml_files(data):
    """Mutations of a TOML file."""
    return st.one_of(_mutated_toml(data), _mutated_toml(data), _damaged(data), _raw())


@st.composite
def safetensors_files(draw, data):
    """Mutations of a safetensors file: of its header with a length that fits, of the length, of all its bytes."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    what = draw(st.sampled_from(["header", "header", "length", "bytes"]))
    if what == "bytes":
        return draw(st.one_of(_damaged(data), _raw()))
    if what == "length":
        number = draw(
            st.one_of(
                st.sampled_from([0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1)
            )
        )
        return number.to_bytes(8, "little") + header + rest
    text = draw(json_files(header))
    return len(text).to_bytes(8, "little") + text + rest


@st.composite
def text_files(draw, data):
    """Mutations of a plain text file of words."""
    lines = data.decode().splitlines()
    place = draw(st.integers(0, len(lines) - 1))
    lines[place] = draw(st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=30)))
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    return draw(st.one_of(st.just(text), _damaged(text), _raw()))
