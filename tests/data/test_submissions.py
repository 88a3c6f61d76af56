"""Files of predictions, to the byte as the original project writes them."""

import json
from pathlib import Path

from vlpnb.data.submissions import gqa_submission, nlvr2_submission, vqa_submission, write_submission

RECORDED = json.loads((Path(__file__).parents[1] / "golden/lxmert/metrics.json").read_text())


def test_submissions_equal_the_originals_byte_for_byte(tmp_path):
    for task, write in (("vqa", vqa_submission), ("gqa", gqa_submission)):
        predictions = dict(RECORDED[task]["predictions"][0]["answers"])
        path = write_submission(tmp_path / "test_predict.json", write(predictions))
        assert path.read_text() == RECORDED[task]["submission_of_first"]
    names = [row["identifier"] for row in RECORDED["nlvr2"]["lxmert_form"]]
    for run in RECORDED["nlvr2"]["runs"]:
        predictions = dict(zip(names, map(bool, run["predictions"]), strict=True))
        path = write_submission(tmp_path / "valid_predict.csv", nlvr2_submission(predictions))
        assert path.read_bytes() == run["csv"].encode()
