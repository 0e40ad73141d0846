#!/usr/bin/env python3
"""The exact rows that the shipped flights and weather must become, computed from the CSV files alone.

Independent of bief: it shares no code, no configuration and no mapping with it, so that both can only be right
together. Python 3.9 or newer, standard library only.

    rowset.py [--rows N] [--table NAME] [--data DIR]    # rows as canonical TSV
    rowset.py --counts [--rows N]                       # {"carrier": 16, ...}
    rowset.py --out DIR [--rows N]                      # DIR/TABLE.tsv for each table
    rowset.py --compare WANTED.tsv FOUND.tsv [--limit N]    # exit 0: the same rows; 1: differ; 2: could not compare

What the rows are
-----------------
An unshifted replay of data/flights.csv.gz and data/weather.csv.gz (`--rows N`: the first N records of each), each
flight joined with its airline, its two airports and its plane where those files have them.

- carrier, airport, aircraft hold one row for each key that any record names, and no other: the 1,355 airports of
  the list where no flight goes are not there.
- A parent that the looked-up file does not have is known by its key alone: its other columns are NULL. That is so
  for 4 airports and 721 tail numbers. What one record says of a parent is never wiped by another that knows less.
- A flight without a tail number yields no aircraft, and its tail_number is NULL.
- An empty cell is NULL, in a looked-up file too.
- `ingested_at` is left out: it is the moment of the replay.

Canonical TSV
-------------
UTF-8, `\\n` after each line, tabs between columns, first line the column names. Rows ascend by primary key: text by
its UTF-8 bytes, numbers by value, times by time. With `--table` one table; without, all, each after a line
`# TABLE`. Values: NULL is `\\N`; backslash, tab, newline and carriage return in text are `\\\\`, `\\t`, `\\n`, `\\r`;
integers have no sign but `-`; times are UTC as `2013-01-01 10:15:00.000000`; floats are the shortest decimal digits
that read back as the same 64-bit number, without exponent and without a bare `.0`: `39.02`, `10`, `-0.5`.

`--compare` reads values rather than spelling: floats by number, times with `T`, `Z` or fewer digits too; the order
of rows and columns does not matter; a column `ingested_at` is left out. It takes the table from the file's name or
from `--table`.
"""

import argparse
import csv
import gzip
import io
import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

TEXT, INTEGER, FLOAT, TIME = "text", "integer", "float", "time"

# Table -> columns in order, with their kind; the primary key.
TABLES = {
    "carrier": ({"code": TEXT, "name": TEXT}, ["code"]),
    "airport": (
        {
            "code": TEXT,
            "name": TEXT,
            "latitude": FLOAT,
            "longitude": FLOAT,
            "altitude": INTEGER,
            "time_zone": TEXT,
        },
        ["code"],
    ),
    "aircraft": (
        {
            "tail_number": TEXT,
            "year_built": INTEGER,
            "type": TEXT,
            "manufacturer": TEXT,
            "model": TEXT,
            "engines": INTEGER,
            "seats": INTEGER,
            "cruise_speed": INTEGER,
            "engine": TEXT,
        },
        ["tail_number"],
    ),
    "flight": (
        {
            "scheduled_departure": TIME,
            "carrier": TEXT,
            "number": INTEGER,
            "origin": TEXT,
            "destination": TEXT,
            "tail_number": TEXT,
            "actual_departure": TIME,
            "dep_delay": INTEGER,
            "sched_arr_time": INTEGER,
            "arr_time": INTEGER,
            "arr_delay": INTEGER,
            "air_time": INTEGER,
            "distance": INTEGER,
        },
        ["scheduled_departure", "carrier", "number", "origin"],
    ),
    "weather": (
        {
            "origin": TEXT,
            "observed_at": TIME,
            "temp": FLOAT,
            "dewp": FLOAT,
            "humid": FLOAT,
            "wind_dir": INTEGER,
            "wind_speed": FLOAT,
            "wind_gust": FLOAT,
            "precip": FLOAT,
            "pressure": FLOAT,
            "visib": FLOAT,
        },
        ["origin", "observed_at"],
    ),
}
NOT_COMPARED = "ingested_at"


def read_time(text):
    """A time in any of the spellings that databases print: UTC, with or without T, Z and a fraction."""
    whole, _, fraction = text.replace("T", " ").removesuffix("Z").removesuffix("+00:00").partition(".")
    time = datetime.fromisoformat(whole)
    return time.replace(microsecond=int(fraction[:6].ljust(6, "0"))) if fraction else time


def read_integer(text):
    try:
        return int(text)
    except ValueError:
        value = Decimal(text)
        if value != value.to_integral_value():
            raise ValueError(f"{text} is no integer") from None
        return int(value)


READ = {TEXT: str, INTEGER: read_integer, FLOAT: float, TIME: read_time}


def show_float(value):
    # + 0.0 makes -0.0 a plain 0
    text = format(Decimal(repr(value + 0.0)), "f")
    return text.removesuffix(".0")


def show_text(value):
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def unescape(text):
    out, rest = [], iter(text)
    for letter in rest:
        out.append({"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}[next(rest)] if letter == "\\" else letter)
    return "".join(out)


SHOW = {TEXT: show_text, INTEGER: str, FLOAT: show_float, TIME: lambda time: time.isoformat(" ", "microseconds")}


def show(kind, value):
    return "\\N" if value is None else SHOW[kind](value)


def read_csv(path, rows=None):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, strict=True)):
            if number == rows:
                return
            yield row


def compute(data, rows):
    """Table -> {key: row}, each row a tuple of values in the table's column order."""
    airlines = {row["carrier"]: row for row in read_csv(data / "airlines.csv")}
    airports = {row["faa"]: row for row in read_csv(data / "airports.csv")}
    planes = {row["tailnum"]: row for row in read_csv(data / "planes.csv")}
    tables = {name: {} for name in TABLES}

    def put(table, *cells):
        columns, key = TABLES[table]
        if len(cells) != len(columns):
            raise AssertionError(f"{len(cells)} cells for the {len(columns)} columns of {table}")
        values = {name: READ[kind](cell) if cell else None for (name, kind), cell in zip(columns.items(), cells)}
        identity = tuple(values[name] for name in key)
        row = tuple(values.values())
        before = tables[table].setdefault(identity, row)
        if before != row:
            sys.exit(f"rowset.py: {table} {identity} has two different rows: the shipped data has changed")

    def put_airport(code):
        known = airports.get(code, {})
        put("airport", code, *(known.get(column, "") for column in ("name", "lat", "lon", "alt", "tzone")))

    seen = set()

    def once(table, code):
        fresh = (table, code) not in seen
        seen.add((table, code))
        return fresh

    for f in read_csv(data / "flights.csv.gz", rows):
        if once("carrier", f["carrier"]):
            put("carrier", f["carrier"], airlines.get(f["carrier"], {}).get("name", ""))
        for code in (f["origin"], f["dest"]):
            if once("airport", code):
                put_airport(code)
        if f["tailnum"] and once("aircraft", f["tailnum"]):
            known = planes.get(f["tailnum"], {})
            columns = ("year", "type", "manufacturer", "model", "engines", "seats", "speed", "engine")
            put("aircraft", f["tailnum"], *(known.get(column, "") for column in columns))
        put(
            "flight", f["scheduled_departure"], f["carrier"], f["flight"], f["origin"], f["dest"], f["tailnum"],
            f["actual_departure"], f["dep_delay"], f["sched_arr_time"], f["arr_time"], f["arr_delay"], f["air_time"],
            f["distance"],
        )  # fmt: skip
    # An observation knows its airport's code alone: it adds a row only where no flight of this replay named it.
    for w in read_csv(data / "weather.csv.gz", rows):
        if once("airport", w["origin"]):
            put("airport", w["origin"], "", "", "", "", "")
        put(
            "weather", w["origin"], w["observed_at"], w["temp"], w["dewp"], w["humid"], w["wind_dir"],
            w["wind_speed"], w["wind_gust"], w["precip"], w["pressure"], w["visib"],
        )  # fmt: skip
    return tables


def sort_key(key):
    return tuple(part.encode("utf-8") if isinstance(part, str) else part for part in key)


def write_table(out, table, rows):
    columns = TABLES[table][0]
    out.write("\t".join(columns) + "\n")
    for key in sorted(rows, key=sort_key):
        out.write("\t".join(show(kind, value) for kind, value in zip(columns.values(), rows[key])) + "\n")


class NotComparable(Exception):
    pass


def read_table(path, table):
    """Rows of a TSV file by their key; NotComparable says what is wrong with it."""
    columns, key = TABLES[table]
    rows = {}
    # Split on \n only: text may hold other characters that Python takes for ends of lines.
    with open(path, encoding="utf-8", newline="") as file:
        lines = file.read().split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise NotComparable(f"{path} is empty, it must begin with the column names")
    header = lines[0].split("\t")
    missing = [name for name in columns if name not in header]
    extra = [name for name in header if name not in columns and name != NOT_COMPARED]
    if missing or extra:
        raise NotComparable(f"{path}: columns of {table} missing: {missing or 'none'}, not expected: {extra or 'none'}")
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split("\t")
        if len(cells) != len(header):
            raise NotComparable(f"{path}, line {number}: {len(cells)} cells where the header has {len(header)}")
        values = {}
        for name, cell in zip(header, cells):
            if name == NOT_COMPARED:
                continue
            try:
                values[name] = None if cell == "\\N" else READ[columns[name]](unescape(cell))
            except (ValueError, ArithmeticError, KeyError, StopIteration) as error:
                raise NotComparable(f"{path}, line {number}, column {name}: {cell!r}: {error}") from error
        identity = tuple(values[name] for name in key)
        if identity in rows:
            raise NotComparable(f"{path}, line {number}: a second row with the key {shown_key(table, identity)}")
        rows[identity] = tuple(values[name] for name in columns)
    return rows


def shown_key(table, identity):
    columns, key = TABLES[table]
    return "(" + ", ".join(f"{name} {show(columns[name], value)}" for name, value in zip(key, identity)) + ")"


def compare(wanted_path, found_path, table, limit):
    wanted, found = read_table(wanted_path, table), read_table(found_path, table)
    columns = TABLES[table][0]
    differences = []
    for identity in sorted(wanted.keys() | found.keys(), key=sort_key):
        where = f"{table} {shown_key(table, identity)}"
        if identity not in found:
            differences.append(f"missing  {where}")
        elif identity not in wanted:
            differences.append(f"surplus  {where}")
        elif wanted[identity] != found[identity]:
            cells = [
                f"{name}: wanted {show(kind, a)}, found {show(kind, b)}"
                for (name, kind), a, b in zip(columns.items(), wanted[identity], found[identity])
                if a != b
            ]
            differences.append(f"differs  {where}: {'; '.join(cells)}")
    for line in differences[:limit]:
        print(line)
    if len(differences) > limit:
        print(f"... and {len(differences) - limit} more")
    print(f"{table}: {len(wanted)} rows wanted, {len(found)} found, {len(differences)} differ")
    return not differences


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "data")
    arguments.add_argument("--rows", type=int, help="only the first so many records of each file")
    arguments.add_argument("--table", choices=TABLES)
    arguments.add_argument("--counts", action="store_true", help="print how many rows each table has, as JSON")
    arguments.add_argument("--out", type=Path, help="write TABLE.tsv for each table into this folder")
    arguments.add_argument("--compare", type=Path, nargs=2, metavar=("WANTED", "FOUND"))
    arguments.add_argument("--limit", type=int, default=20, help="at most so many differing rows are named")
    arguments = arguments.parse_args()

    if arguments.compare:
        table = arguments.table or arguments.compare[0].name.split(".")[0]
        if table not in TABLES:
            print(f"rowset.py: give --table: {arguments.compare[0].name} names none", file=sys.stderr)
            sys.exit(2)
        try:
            same = compare(*arguments.compare, table, arguments.limit)
        except (NotComparable, OSError) as error:
            print(f"rowset.py: {error}", file=sys.stderr)
            sys.exit(2)
        sys.exit(0 if same else 1)

    tables = compute(arguments.data, arguments.rows)
    names = [arguments.table] if arguments.table else list(TABLES)
    if arguments.counts:
        print(json.dumps({name: len(tables[name]) for name in names}))
        return
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name in names:
            with (arguments.out / f"{name}.tsv").open("w", encoding="utf-8", newline="") as out:
                write_table(out, name, tables[name])
        return
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    for name in names:
        if not arguments.table:
            out.write(f"# {name}\n")
        write_table(out, name, tables[name])
    out.flush()


if __name__ == "__main__":
    main()
