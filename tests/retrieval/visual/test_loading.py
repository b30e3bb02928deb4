"""Checkpoints by name: whole and adapter, what is refused, what is said, and what a device without memory does."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from tiny_checkpoints import build, save

from colsearcher.indexes.errors import ModelProblem, UserError
from colsearcher.retrieval.embedder import canonical_name, load_embedder
from colsearcher.retrieval.page import Page
from colsearcher.retrieval.visual.embedder import VisualEmbedder
from colsearcher.retrieval.visual.families import FAMILIES
from colsearcher.retrieval.visual.loading import CheckpointName, load_checkpoint

QWEN = next(family for family in FAMILIES if family.name == "ColQwen2.5")
PALI = next(family for family in FAMILIES if family.name == "ColPali")
GREY = Image.new("RGB", (200, 300), "grey")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(QWEN, tmp_path_factory.mktemp("qwen"))


def page(picture=GREY):
    return Page("a.pdf", 1, None, (200, 300), picture=picture)


def adapter(base, folder, *, trained=True):
    model, processor = build(QWEN)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "custom_text_proj"]))
    for name, weight in tuned.named_parameters():
        if trained and "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    processor.save_pretrained(folder)
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(base)}))
    return tuned.merge_and_unload(), processor


def test_an_adapter_is_loaded_with_its_base_and_changes_it(folder, tmp_path):
    merged, processor = adapter(folder, tmp_path / "adapter")
    found = load_embedder(str(tmp_path / "adapter"), device="cpu", dtype="fp32")
    with torch.no_grad():
        wanted = merged.eval()(**processor.process_images([GREY]))[0].numpy()
    embedding = found.embed_pages([page()])[0]
    np.testing.assert_allclose(embedding.vectors, wanted, atol=1e-5)
    plain = load_embedder(str(folder), device="cpu", dtype="fp32")
    assert np.abs(plain.embed_pages([page()])[0].vectors - wanted).max() > 0.01
    assert found.revision != plain.revision


def test_an_adapter_that_changes_nothing_is_refused(folder, tmp_path):
    adapter(folder, tmp_path / "adapter", trained=False)
    with pytest.raises(ModelProblem, match=r"changes 0 of .* layers"):
        load_checkpoint(str(tmp_path / "adapter"), device="cpu")


def test_weights_that_would_stay_random_are_refused(tmp_path):
    model, processor = build(QWEN)
    state = {name: weight for name, weight in model.state_dict().items() if "custom_text_proj" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ModelProblem, match=r"lacks 2 weights of ColQwen2_5 .*would stay random"):
        load_checkpoint(str(tmp_path), device="cpu")


def test_the_projection_tells_many_vectors_from_one_where_no_class_does(tmp_path):
    for name, single in (("ColQwen2.5", False), ("BiQwen2.5", True)):
        family = next(family for family in FAMILIES if family.name == name)
        folder = save(family, tmp_path / name)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen2_5_VLModel"]}))
        assert load_checkpoint(str(folder), device="cpu").family.single is single


def test_a_model_that_is_no_embedder_is_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    with pytest.raises(ModelProblem, match="is a LlamaForCausalLM, which is no page embedder"):
        load_checkpoint(str(tmp_path), device="cpu")


def test_a_hub_id_without_a_network_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelProblem, match=r"vidore/no-such-model is not on this machine and the hub cannot be reached"):
        load_embedder("vidore/no-such-model")


def test_names_keep_what_shapes_the_vectors(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert canonical_name(f"{folder.name}?max_pixels=50000") == f"{folder}?max_pixels=50000"
    assert str(CheckpointName.parse("vidore/x@v1.0")) == "vidore/x@v1.0"
    assert canonical_name("minilm") == "minilm"


def test_fewer_pixels_make_fewer_vectors_and_another_revision(folder):
    large, small = (load_embedder(f"{folder}{more}", device="cpu", dtype="fp32") for more in ("", "?max_pixels=12544"))
    many, few = (len(embedder.embed_pages([page()])[0].vectors) for embedder in (large, small))
    assert few < many and (few - many) % 1 == 0
    assert small.revision != large.revision and small.picture_pixels < large.picture_pixels


def test_a_family_with_one_size_has_no_fewer_pixels(tmp_path):
    with pytest.raises(ModelProblem, match="looks at every page in one size"):
        load_checkpoint(f"{save(PALI, tmp_path)}?max_pixels=1000", device="cpu")


class OutOfMemory(torch.nn.Module):
    """A model on a device that has room for so many tokens."""

    def __init__(self, model, tokens):
        super().__init__()
        self.model, self.tokens, self.sizes = model, tokens, []
        self.config, self.dim, self.dtype = model.config, model.dim, model.dtype

    def forward(self, **inputs):
        self.sizes.append(tuple(inputs["input_ids"].shape))
        if inputs["input_ids"].numel() > self.tokens:
            raise torch.OutOfMemoryError("no room")
        return self.model(**inputs)


def test_a_batch_that_does_not_fit_is_halved_until_it_does(folder):
    checkpoint = load_checkpoint(str(folder), device="cpu", dtype="fp32")
    narrow = OutOfMemory(checkpoint.model, 200)
    embedder = VisualEmbedder(replace(checkpoint, model=narrow), batch_tokens=1_000)
    pictures = [Image.new("RGB", (200, 300), (shade, shade, shade)) for shade in range(0, 250, 25)]
    found = embedder.embed_pictures(pictures)
    wanted = VisualEmbedder(checkpoint).embed_pictures(pictures)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.vectors, other.vectors, atol=2e-5)
    assert max(rows for rows, _ in narrow.sizes) > 2
    narrow.sizes.clear()
    embedder.embed_pictures(pictures)
    assert max(rows for rows, _ in narrow.sizes) <= 3  # it has learned


def test_a_page_that_never_fits_is_one_sentence(folder):
    checkpoint = load_checkpoint(str(folder), device="cpu", dtype="fp32")
    embedder = VisualEmbedder(replace(checkpoint, model=OutOfMemory(checkpoint.model, 5)))
    with pytest.raises(ModelProblem, match=r"A page of 200 x 300 pixels needs more memory than cpu has; say --embedder"):
        embedder.embed_pages([page()])


def test_a_passage_is_not_looked_at_and_an_empty_question_not_asked(folder):
    embedder = load_embedder(str(folder), device="cpu")
    with pytest.raises(UserError, match=r"is a passage of text and ColQwen2\.5 looks at pages"):
        embedder.embed_pages([page(None)])
    with pytest.raises(UserError, match="is empty"):
        embedder.embed_queries([" ? "])
