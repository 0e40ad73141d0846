#!/usr/bin/env python3
"""The documents that the shipped aggregates must become, computed from the CSV files alone.

Independent of bief and of its SQL: it shares no code, no configuration and no query with them, so that both can only be
right together. Python 3.9 or newer, standard library only.

    documents.py [--rows N] [--data DIR]    # one JSON object a line
    documents.py --compare FILE [--rows N]  # exit 0: FILE holds these documents; 1: they differ; 2: could not compare

Of an unshifted replay (`--rows N`: the first N records of each file), one line for each document, in no order:

    {"aggregate": "departures_hourly", "bucket": "2013-01-01 10:00:00", "key": {"origin": "EWR"}, "values": {...}}

A bucket begins at the full hour or at midnight, UTC. A mean is the quotient of a sum and a count as a 64-bit float, null
where the count is 0; so is a sum of nothing.

`--compare` reads documents as a cache holds them, one JSON object a line with at least `aggregate`, `key`, `bucket_start`,
`bucket_end` (RFC 3339) and `values`. It wants each document once, no other, and every number equal to the last bit:
there is no tolerance, since sums of whole minutes are exact, and IEEE 754 leaves one result for a quotient of them.
"""

import argparse
import csv
import gzip
import itertools
import json
import sys
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path


def number(text):
    if text == "":
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def read(path, rows):
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from itertools.islice(csv.DictReader(file), rows)


def hour(moment):
    return f"{moment[:10]} {moment[11:13]}:00:00"


def day(moment):
    return f"{moment[:10]} 00:00:00"


def known(rows, column):
    return [value for row in rows if (value := number(row[column])) is not None]


def summed(values):
    return sum(values) if values else None


def mean(values):
    return sum(values) / len(values) if values else None


def delays(rows):
    departure, arrival = known(rows, "dep_delay"), known(rows, "arr_delay")
    return {
        "dep_delays": len(departure),
        "sum_dep_delay": summed(departure),
        "mean_dep_delay": mean(departure),
        "arr_delays": len(arrival),
        "sum_arr_delay": summed(arrival),
        "mean_arr_delay": mean(arrival),
    }


def traffic(rows):
    departed = sum(row["actual_departure"] != "" for row in rows)
    late = sum(delay >= 15 for delay in known(rows, "dep_delay"))
    return {"flights": len(rows), "departed": departed, "cancelled": len(rows) - departed, "late": late}


def departures(rows):
    return {**traffic(rows), **delays(rows), "max_dep_delay": max(known(rows, "dep_delay"), default=None)}


def of_carrier(rows):
    return {**traffic(rows), **delays(rows)}


def route(rows):
    in_the_air = known(rows, "air_time")
    air = {"air_times": len(in_the_air), "sum_air_time": summed(in_the_air), "mean_air_time": mean(in_the_air)}
    counts = traffic(rows)
    return {"flights": counts["flights"], "departed": counts["departed"], **delays(rows), **air}


def summary(rows):
    left = [row for row in rows if row["actual_departure"]]
    return {
        **traffic(rows),
        **delays(rows),
        "not_arrived": sum(row["arr_delay"] == "" for row in left),
        "carriers": len({row["carrier"] for row in rows}),
        "destinations": len({row["dest"] for row in rows}),
        "aircraft": len({row["tailnum"] for row in rows} - {""}),
        "miles": sum(number(row["distance"]) for row in left),
    }


CLASSES = [(15, "1 to 14 minutes", 1), (60, "15 to 59 minutes", 15), (180, "1 to 3 hours", 60)]


def delay_class(row):
    delay = number(row["dep_delay"])
    if delay is None:
        return "cancelled"
    if delay <= 0:
        return "on time"
    return next((name for below, name, _ in CLASSES if delay < below), "3 hours and more")


def class_counts(rows):
    least = {name: least for _, name, least in CLASSES} | {"3 hours and more": 180}
    return {"flights": len(rows), "least_delay": least.get(delay_class(rows[0]))}


def observed(rows):
    one = lambda column, pick: pick(values) if (values := known(rows, column)) else None
    return {
        "observations": len(rows),
        **{column: one(column, mean) for column in ["temp", "dewp", "humid", "wind_speed", "pressure"]},
        "wind_dir": one("wind_dir", max),
        "wind_gust": one("wind_gust", max),
        "precip": one("precip", sum),
        "visib": one("visib", min),
    }


def column(name):
    return lambda row: row[name]


# Differences that are told.
SHOWN = 20

# Aggregate -> file, time, bucket, key with where it comes from, values.
AGGREGATES = {
    "departures_hourly": ("flights", "scheduled_departure", hour, {"origin": column("origin")}, departures),
    "departures_by_carrier_hourly": (
        "flights",
        "scheduled_departure",
        hour,
        {"carrier": column("carrier"), "origin": column("origin")},
        of_carrier,
    ),
    "routes_hourly": (
        "flights",
        "scheduled_departure",
        hour,
        {"origin": column("origin"), "destination": column("dest")},
        route,
    ),
    "daily_summary": ("flights", "scheduled_departure", day, {}, summary),
    "delay_histogram": ("flights", "scheduled_departure", day, {"delay_class": delay_class}, class_counts),
    "weather_hourly": ("weather", "observed_at", hour, {"origin": column("origin")}, observed),
}


def documents(data, rows):
    files = {name: list(read(data / f"{name}.csv.gz", rows)) for name in ("flights", "weather")}
    for aggregate, (file, time, bucket_of, key_of, values_of) in AGGREGATES.items():
        groups = defaultdict(list)
        for row in files[file]:
            groups[(bucket_of(row[time]), *(part(row) for part in key_of.values()))].append(row)
        for (bucket, *key), group in groups.items():
            key = dict(zip(key_of, key))
            yield {"aggregate": aggregate, "bucket": bucket, "key": key, "values": values_of(group)}


def name_of(aggregate, start, key):
    return f"{aggregate} {start:%Y-%m-%d %H:%M:%S} {json.dumps(key, sort_keys=True)}"


def read_time(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def compare(path, wanted):
    """What differs, a sentence each."""
    due = {}
    for document in wanted:
        start = datetime.fromisoformat(document["bucket"] + "+00:00")
        width = timedelta(hours=1) if AGGREGATES[document["aggregate"]][2] is hour else timedelta(days=1)
        due[name_of(document["aggregate"], start, document["key"])] = (start + width, document["values"])
    seen = Counter()
    with open(path, encoding="utf-8") as file:
        for found in map(json.loads, file):
            start, end = read_time(found["bucket_start"]), read_time(found["bucket_end"])
            name = name_of(found["aggregate"], start, found["key"])
            seen[name] += 1
            if name not in due:
                yield f"one too many: {name}"
                continue
            if seen[name] == 2:
                yield f"there more than once: {name}"
            wanted_end, wanted_values = due[name]
            if end != wanted_end:
                yield f"ends at {end}, not {wanted_end}: {name}"
            if found["values"] != wanted_values:
                yield f"{name}: {different(found['values'], wanted_values)}"
    for name in due.keys() - seen.keys():
        yield f"missing: {name}"
    if not due:
        yield "nothing to compare with"


def different(found, wanted):
    nothing = "(none)"
    names = [name for name in found | wanted if found.get(name, nothing) != wanted.get(name, nothing)]
    return ", ".join(f"{name} is {found.get(name, nothing)}, not {wanted.get(name, nothing)}" for name in names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="only the first N records of each file")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "data")
    parser.add_argument("--compare", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if arguments.compare:
        try:
            differences = list(compare(arguments.compare, documents(arguments.data, arguments.rows)))
        except (OSError, ValueError, KeyError) as error:
            print(f"documents.py: cannot compare {arguments.compare}: {error!r}", file=sys.stderr)
            sys.exit(2)
        for difference in differences[:SHOWN]:
            print(difference)
        if differences:
            print(f"{len(differences)} differences")
        sys.exit(1 if differences else 0)
    for document in documents(arguments.data, arguments.rows):
        print(json.dumps(document))


if __name__ == "__main__":
    main()
