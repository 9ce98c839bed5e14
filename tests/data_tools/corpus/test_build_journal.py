"""The journal survives a torn line."""

import json

from data_tools.corpus.build import FILE, Journal


def test_later_lines_replace_earlier_ones_and_a_torn_line_costs_itself_alone(tmp_path):
    journal = Journal(tmp_path)
    for number in range(3):
        journal.add({"name": "a", "number": number})
    journal.add({"name": "b", "number": 0})
    with open(tmp_path / FILE, "ab") as stream:
        stream.write(json.dumps({"name": "c", "number": 1}).encode()[:-4])
    again = Journal(tmp_path)
    assert {name: record["number"] for name, record in again.records.items()} == {"a": 2, "b": 0}
    again.add({"name": "d", "number": 5})
    assert set(Journal(tmp_path).records) == {"a", "b", "d"}
