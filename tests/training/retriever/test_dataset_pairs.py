import io
import json

import datasets
import pytest
from PIL import Image

from colsearcher.indexes.errors import UserError
from colsearcher.training.retriever.dataset_pairs import dataset_pairs

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
ROWS = [("what is red?", "red"), ("what burns?", "red"), ("what is green?", "green"), (None, "blue")]


def picture(colour):
    file = io.BytesIO()
    Image.new("RGB", (40, 20), COLOURS[colour]).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def rows():
    columns = {"query": [q for q, _ in ROWS], "image": [{"bytes": picture(c), "path": None} for _, c in ROWS]}
    features = datasets.Features({"query": datasets.Value("string"), "image": datasets.Image()})
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(params=["disk", "splits", "parquet", "folder", "json"])
def name(request, rows, tmp_path):
    path = tmp_path / request.param
    if request.param == "disk":
        rows.save_to_disk(path)
    elif request.param == "splits":
        datasets.DatasetDict({"test": rows.select([0]), "train": rows}).save_to_disk(path)
    elif request.param == "parquet":
        path = tmp_path / "rows.parquet"
        rows.to_parquet(path)
    elif request.param == "folder":
        path.mkdir()
        for i in range(2):
            rows.select([2 * i, 2 * i + 1]).to_parquet(path / f"{i}.parquet")
    else:
        for colour in COLOURS:
            (tmp_path / f"{colour}.png").write_bytes(picture(colour))
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps({"query": q, "image": f"{c}.png"}) + "\n" for q, c in ROWS))
    return str(path)


def test_every_form_of_a_dataset_gives_the_same_pairs(name):
    found = dataset_pairs(name, max_pixels=200)
    assert [pair.question for pair in found.pairs] == [q for q, _ in ROWS if q]
    assert found.pairs[0].page == found.pairs[1].page != found.pairs[2].page
    assert len(found.pages) == 3
    drawn = found.draw(found.pairs[2].page)
    assert drawn.size == (20, 10) and drawn.getpixel((5, 5)) == COLOURS["green"]
    assert len(dataset_pairs(name, max_pixels=200, limit=1).pairs) == 1


def test_the_name_of_a_picture_says_which_page_it_is(rows, tmp_path):
    rows.add_column("image_filename", ["a", "a", "b", "c"]).to_parquet(tmp_path / "rows.parquet")
    found = dataset_pairs(str(tmp_path / "rows.parquet"), max_pixels=10_000)
    assert found.pages == ("a", "b", "c") and found.draw("a").size == (40, 20)


def test_what_is_no_such_dataset_is_refused(rows, tmp_path):
    rows.select_columns(["query"]).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="it needs query and image"):
        dataset_pairs(str(tmp_path / "rows.parquet"), max_pixels=200)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is no dataset"):
        dataset_pairs(str(tmp_path / "empty"), max_pixels=200)
    rows.select([3]).to_parquet(tmp_path / "pages.parquet")
    with pytest.raises(UserError, match="No row"):
        dataset_pairs(str(tmp_path / "pages.parquet"), max_pixels=200)
