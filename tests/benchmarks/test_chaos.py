"""The campaign's account of its sweeps: which to hit next, and when there are faults enough."""

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.chaos.__main__ import Campaign
from benchmarks.chaos.tally import Tally


def test_a_campaign_goes_on_with_the_sweeps_that_its_file_lacks(tmp_path: Path) -> None:
    file = tmp_path / "seed-0.jsonl"
    kept = [Tally(number, "worker", injected=6) for number in (0, 2)]
    file.write_text("".join(json.dumps(asdict(tally)) + "\n" for tally in kept))
    campaign = Campaign(file, faults=20, each=6)
    assert [campaign.next(), campaign.next()] == [1, 3]
    assert campaign.next() is None, "those that run have faults enough"
    campaign.add(Tally(1, "GCS", injected=2))
    assert campaign.next() is None
    campaign.add(Tally(3, "GCS", injected=0))
    assert campaign.next() == 4
    campaign.stop()
    assert campaign.next() is None
    assert [tally.sweep for tally in Campaign(file, 20, 6).tallies] == [0, 2, 1, 3]
