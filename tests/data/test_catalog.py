"""The catalog of public datasets: it covers what the five papers use, and its readers accept real files."""

from pathlib import Path

import pytest

from vlpnb.course import cli
from vlpnb.course.pages import read_papers
from vlpnb.data.catalog import DATASETS, PublicDataset, Remote
from vlpnb.data.fetching import check_folder

SAMPLES = Path(__file__).parents[3] / "shared" / "data"


def test_every_system_finds_pictures_or_text_to_train_on_and_something_to_be_asked():
    assert {system for entry in DATASETS.values() for system in entry.systems} == set(read_papers())
    used = {
        system: {entry.name for entry in DATASETS.values() if system in entry.systems}
        for system in read_papers()
    }
    assert {"coco2014", "visual_genome", "wikitext103", "wikipedia", "glue", "squad", "swag"} <= used[
        "vokenization"
    ]
    assert {"lxmert", "lxmert_features", "vqa2", "gqa", "nlvr2"} <= used["lxmert"]
    assert {"conceptual_captions", "karpathy", "flickr30k", "vqa2", "vlp_features"} <= used["vlp"]
    assert {"cc100", "laion", "wikitext103", "lambada", "commonsense"} <= used["valm"]
    assert {"conceptual_captions", "sbu", "visual_genome_regions", "wikimatrix", "multi30k", "iglue"} <= used[
        "cclm"
    ]


def test_a_size_is_the_sum_of_the_files_and_unknown_where_one_is():
    def entry(*sizes, size=None):
        remotes = tuple(Remote(("https://x/y",), "y", megabytes=one) for one in sizes)
        return PublicDataset("x", "what", "MIT", remotes, (), size=size).megabytes

    assert entry(1, 2) == 3
    assert entry(1, None) is None
    assert entry(1, None, size=9) == 9
    assert entry() is None


def test_the_list_can_be_cut_to_one_system(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", "list", "--system", "valm"])
    assert caught.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [e.name for e in DATASETS.values() if "valm" in e.systems]
    assert any("fetch" in line and "82 GB" in line and "Common Crawl" in line for line in lines)
    with pytest.raises(SystemExit) as caught:
        cli.main(["data", "list", "--system", "vlm"])
    assert caught.value.code == 2
    assert "did you mean 'valm'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["commonsense", "multi30k", "easy_vqa", "nlvr", "snli_ve"])
def test_real_samples_pass_the_check_and_a_broken_file_does_not(name, tmp_path):
    folder = SAMPLES / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: the check of {name} was NOT tested on real files")
    assert check_folder(folder, name) == []
    first = DATASETS[name].layout[0]
    (tmp_path / first.path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / first.path).write_bytes(b"\xff\xfen\x00o\x00")  # UTF-16
    problems = check_folder(tmp_path, name)
    assert len(problems) == len(DATASETS[name].layout), "the broken file, and all others that are missing"
