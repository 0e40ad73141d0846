#!/usr/bin/env python3
"""The row sets against facts counted otherwise, and the comparison against differences planted by hand.

    python3 tests/rowset/test_rowset.py
"""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

import rowset

DATA = Path(__file__).resolve().parents[2] / "data"


class RowSets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tables = rowset.compute(DATA, None)

    def test_every_table_has_the_rows_that_the_data_set_is_known_for(self):
        counts = {name: len(rows) for name, rows in self.tables.items()}
        wanted = {"carrier": 16, "airport": 107, "aircraft": 4043, "flight": 336_776, "weather": 26_115}
        self.assertEqual(counts, wanted)

    def test_unknown_parents_are_there_by_their_key_alone(self):
        for table, wanted in [("airport", 4), ("aircraft", 721), ("carrier", 0)]:
            bare = [row for row in self.tables[table].values() if all(value is None for value in row[1:])]
            self.assertEqual(len(bare), wanted, table)

    def test_every_foreign_key_finds_its_parent(self):
        columns = list(rowset.TABLES["flight"][0])
        for column, parent in [
            ("carrier", "carrier"),
            ("origin", "airport"),
            ("destination", "airport"),
            ("tail_number", "aircraft"),
        ]:
            at = columns.index(column)
            named = {row[at] for row in self.tables["flight"].values()} - {None}
            self.assertEqual({(key,) for key in named} - self.tables[parent].keys(), set())
        self.assertEqual({(origin,) for origin, _ in self.tables["weather"]} - self.tables["airport"].keys(), set())

    def test_nulls_are_counted_as_in_the_source(self):
        columns = list(rowset.TABLES["flight"][0])
        for column, wanted in [("tail_number", 2_512), ("actual_departure", 8_255), ("arr_delay", 9_430), ("arr_time", 8_713)]:
            at = columns.index(column)
            nulls = sum(row[at] is None for row in self.tables["flight"].values())
            self.assertEqual(nulls, wanted, column)

    def test_a_table_written_and_read_back_is_the_same(self):
        with tempfile.TemporaryDirectory() as folder:
            for table, rows in self.tables.items():
                path = Path(folder) / f"{table}.tsv"
                with path.open("w", encoding="utf-8", newline="") as out:
                    rowset.write_table(out, table, rows)
                self.assertEqual(rowset.read_table(path, table), rows)


class Comparison(unittest.TestCase):
    HEADER = "code\tname\n"

    def compare(self, wanted, found, table="carrier"):
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / name for name in ("wanted.tsv", "found.tsv")]
            for path, text in zip(paths, (wanted, found)):
                path.write_text(text, encoding="utf-8", newline="")
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                same = rowset.compare(*paths, table, 20)
            return same, out.getvalue().splitlines()

    def test_order_spelling_and_the_moment_of_ingestion_do_not_matter(self):
        a = "origin\tobserved_at\ttemp\tdewp\thumid\twind_dir\twind_speed\twind_gust\tprecip\tpressure\tvisib\n"
        wanted = a + "EWR\t2013-01-01 06:00:00.000000\t39.02\t10\t-0\t270\t\\N\t\\N\t0\t1012\t10\n"
        b = "observed_at\torigin\ttemp\tdewp\thumid\twind_dir\twind_speed\twind_gust\tprecip\tpressure\tvisib\tingested_at\n"
        found = b + "2013-01-01T06:00:00Z\tEWR\t39.020\t1e1\t0.0\t270\t\\N\t\\N\t0.0\t1012.0\t10.0\t2026-01-01 00:00:00\n"
        self.assertEqual(self.compare(wanted, found, "weather"), (True, ["weather: 1 rows wanted, 1 found, 0 differ"]))

    def test_each_difference_is_named_with_its_key(self):
        wanted = self.HEADER + "AA\tAlpha\nBB\tBeta\nCC\t\\N\n"
        found = self.HEADER + "CC\tGamma\nAA\tAlpha\nDD\tDelta\n"
        same, lines = self.compare(wanted, found)
        self.assertFalse(same)
        self.assertEqual(
            lines,
            [
                "missing  carrier (code BB)",
                "differs  carrier (code CC): name: wanted \\N, found Gamma",
                "surplus  carrier (code DD)",
                "carrier: 3 rows wanted, 3 found, 3 differ",
            ],
        )

    def test_the_empty_string_is_not_null_and_a_null_is_not_the_text(self):
        same, _ = self.compare(self.HEADER + "AA\t\\N\n", self.HEADER + "AA\t\n")
        self.assertFalse(same)
        same, _ = self.compare(self.HEADER + "AA\t\\N\n", self.HEADER + "AA\t\\\\N\n")
        self.assertFalse(same)

    def test_a_neighbouring_float_and_a_microsecond_are_differences(self):
        head = "code\tname\tlatitude\tlongitude\taltitude\ttime_zone\n"
        same, _ = self.compare(head + "X\t\\N\t0.1\t\\N\t\\N\t\\N\n", head + "X\t\\N\t0.10000000000000002\t\\N\t\\N\t\\N\n", "airport")
        self.assertFalse(same)
        self.assertNotEqual(rowset.read_time("2013-01-01 00:00:00"), rowset.read_time("2013-01-01 00:00:00.000001"))

    def test_what_cannot_be_compared_is_said(self):
        good = self.HEADER + "AA\tAlpha\n"
        for bad, words in [
            ("", "empty"),
            ("code\n", "missing: ['name']"),
            (self.HEADER + "AA\n", "line 2: 1 cells"),
            (good + "AA\tAgain\n", "line 3: a second row with the key (code AA)"),
            ("code\tname\tother\nAA\tAlpha\tx\n", "not expected: ['other']"),
        ]:
            with self.assertRaises(rowset.NotComparable) as caught:
                self.compare(good, bad)
            self.assertIn(words, str(caught.exception))

    def test_floats_are_shown_without_exponent_and_bare_point(self):
        for value, wanted in [(10.0, "10"), (39.02, "39.02"), (-0.0, "0"), (1e-7, "0.0000001"), (1e22, "10000000000000000000000")]:
            self.assertEqual(rowset.show_float(value), wanted)


if __name__ == "__main__":
    unittest.main()
