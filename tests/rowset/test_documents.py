#!/usr/bin/env python3
"""The comparison of documents against differences planted by hand, and the documents of all records against facts counted
otherwise.

    python3 tests/rowset/test_documents.py
"""

import copy
import json
import tempfile
import unittest
from pathlib import Path

import documents

DATA = Path(__file__).resolve().parents[2] / "data"


def stored(document):
    """As a cache holds it, with what is not compared."""
    start = document["bucket"].replace(" ", "T") + "Z"
    hourly = documents.AGGREGATES[document["aggregate"]][2] is documents.hour
    end = start[:11] + f"{int(start[11:13]) + 1:02}:00:00Z" if hourly else start[:8] + f"{int(start[8:10]) + 1:02}T00:00:00Z"
    rest = {"version": 3, "computed_at": "2026-01-01T00:00:00Z", "offsets": {}}
    same = {name: copy.deepcopy(document[name]) for name in ("aggregate", "key", "values")}
    return {**same, "bucket_start": start, "bucket_end": end, **rest}


class Comparison(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Of the days' last hours an end would be on the next day.
        whole = list(documents.documents(DATA, 600))
        cls.wanted = [document for document in whole if document["bucket"][11:13] != "23"]

    def differences(self, change):
        found = [stored(document) for document in self.wanted]
        change(found)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "found.jsonl"
            path.write_text("".join(json.dumps(document) + "\n" for document in found))
            return list(documents.compare(path, self.wanted))

    def test_the_same_documents_in_another_order_do_not_differ(self):
        self.assertEqual(self.differences(lambda found: found.reverse()), [])

    def test_one_that_is_missing_too_many_or_twice_is_told(self):
        for change, told in [
            (lambda found: found.pop(), "missing: "),
            (lambda found: found[0]["key"].update(origin="XXX"), "one too many: "),
            (lambda found: found.append(found[0]), "there more than once: "),
        ]:
            self.assertTrue(any(told in one for one in self.differences(change)), told)

    def test_the_last_bit_counts(self):
        def change(found):
            mean = next(document for document in found if document["values"].get("mean_dep_delay"))
            mean["values"]["mean_dep_delay"] *= 1 + 2**-52

        self.assertIn("mean_dep_delay is ", self.differences(change)[0])

    def test_a_value_that_is_missing_is_not_null(self):
        def change(found):
            with_null = next(document for document in found if None in document["values"].values())
            names = [name for name, value in with_null["values"].items() if value is None]
            del with_null["values"][names[0]]

        self.assertIn("is (none), not None", self.differences(change)[0])

    def test_where_a_bucket_ends_counts(self):
        found = self.differences(lambda found: found[0].update(bucket_end="2013-01-01T10:30:00Z"))
        self.assertEqual(len(found), 1)
        self.assertIn("ends at ", found[0])

    def test_a_bucket_that_begins_elsewhere_is_one_too_many_and_one_missing(self):
        found = self.differences(lambda found: found[0].update(bucket_start="2013-01-01T10:00:01Z"))
        self.assertEqual([one.split(":")[0] for one in found], ["one too many", "missing"])


class AllRecords(unittest.TestCase):
    def test_every_record_is_counted_once_in_each_aggregate(self):
        counted = {}
        for document in documents.documents(DATA, None):
            values = document["values"]
            of = counted.setdefault(document["aggregate"], [0, 0])
            of[0] += 1
            of[1] += values.get("flights", values.get("observations"))
        flights, weather = 336_776, 26_115
        self.assertEqual({name for name, (_, records) in counted.items() if records == flights}, set(counted) - {"weather_hourly"})
        self.assertEqual(counted["weather_hourly"], [weather, weather])
        self.assertGreater(counted["departures_hourly"][0], 15_000)


if __name__ == "__main__":
    unittest.main()
