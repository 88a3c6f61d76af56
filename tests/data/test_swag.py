"""SWAG's CSV: quoting, test files without labels, and errors with file and line."""

import pytest

from vlpnb.data.swag import SwagExample, read_swag
from vlpnb.errors import UserError

HEADER = ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
ROW = (
    '0,anetv_1,3416,"A man, tall. He",A man.,He,gold,runs.,"says ""no"", then sits.",sings.,flies.,{label}\n'
)


def test_rows(tmp_path):
    (tmp_path / "train.csv").write_text(HEADER + ROW.format(label=2))
    endings = ("runs.", 'says "no", then sits.', "sings.", "flies.")
    assert read_swag(tmp_path, "train") == [SwagExample("A man.", "He", endings, 2)]
    header, row = HEADER.replace(",label", ""), ROW.replace(",{label}", "")
    (tmp_path / "test.csv").write_bytes((header + row).replace("\n", "\r\n").encode())
    assert read_swag(tmp_path, "test") == [SwagExample("A man.", "He", endings, None)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'sent1' in the header; found an empty file"),
        (HEADER.replace("ending3", "ending"), r"train\.csv:1: no column 'ending3'"),
        (HEADER, "no example"),
        (HEADER + ROW.format(label=1) + ROW.format(label=4), r"train\.csv:3: label '4'"),
        (HEADER + ROW.format(label="1,2"), r"train\.csv:2: 13 columns, expected 12"),
        (HEADER + ROW.format(label=1).replace("sings.", " "), r"train\.csv:2: ending2 is empty"),
        (HEADER + '0,"x" y,z\n', r"train\.csv:2: not valid CSV"),
        (HEADER + ROW.format(label=1).replace('sits."', "sits."), r"train\.csv:2: not valid CSV"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, message):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_swag(tmp_path, "train")


def test_absent_files_and_names(tmp_path):
    with pytest.raises(UserError, match=r"val\.csv does not exist"):
        read_swag(tmp_path, "valid")
    with pytest.raises(UserError, match="split 'validation'"):
        read_swag(tmp_path, "validation")
