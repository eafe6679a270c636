"""Layer selection on tiny random models of each family, against running the picked layers by hand."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize, Pooling, Transformer
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from pipelines.checkpoints.inspect import left_behind
from pipelines.checkpoints.name import weights_sha256
from pipelines.stage.errors import UserError
from pipelines.students.config import DistillConfig
from pipelines.students.initialise import initialise_student, load_student
from pipelines.students.source import pick_layers, with_prompts
from tests.tiny import Family, tiny_bi_encoder, tiny_encoder

FAMILIES: list[Family] = ["modernbert", "bert", "mpnet", "xlm-roberta"]
NUM_LAYERS = 7
LAYERS = [0, 3, 5, 6]  # ModernBERT: global, global, local, global
TEXTS = ["the king of winter", "why " * 30 + "is the silver moon cold when the fish sleep in the river", "x"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[Family, str]:
    root = tmp_path_factory.mktemp("sources")
    return {family: tiny_encoder(root / family, family, NUM_LAYERS) for family in FAMILIES}


def student_of(source: str, layers=LAYERS, num_layers=4, **settings) -> SentenceTransformer:
    settings = {"dimensions": (32, 8), "max_tokens": 64} | settings
    return initialise_student(DistillConfig(source_model=source, layers=layers, num_layers=num_layers, **settings))


def token_embeddings(student: SentenceTransformer, encoder: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return encoder(**student.tokenizer(TEXTS, padding=True, return_tensors="pt")).last_hidden_state


def by_hand(source: str, layers: list[int]) -> torch.nn.Module:
    """The source itself, with its list of layers cut to those asked for."""
    encoder = AutoModel.from_pretrained(source).eval()
    owner, name = (encoder, "layers") if hasattr(encoder, "layers") else (encoder.encoder, "layer")
    setattr(owner, name, torch.nn.ModuleList([getattr(owner, name)[layer] for layer in layers]))
    return encoder


@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_picked_give_the_source_itself(sources, family):
    student = student_of(sources[family], "first", NUM_LAYERS)

    source = AutoModel.from_pretrained(sources[family]).eval()
    assert (token_embeddings(student, student[0].model) - token_embeddings(student, source)).abs().max() == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_picked_layers_give_what_running_them_by_hand_gives(sources, family):
    student = student_of(sources[family])

    expected = token_embeddings(student, by_hand(sources[family], LAYERS))
    assert (token_embeddings(student, student[0].model) - expected).abs().max() == 0
    assert (expected - token_embeddings(student, by_hand(sources[family], [0, 1, 2, 3]))).abs().max() > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_student_reloads_with_plain_sentence_transformers_and_equal_embeddings(sources, family, tmp_path, caplog):
    student = student_of(sources[family], query_prompt="query: ", passage_prompt="passage: ")
    student.save(str(tmp_path / "untrained"))
    load_student(str(tmp_path / "untrained")).save(str(tmp_path / "trained"))

    reloaded = SentenceTransformer(str(tmp_path / "trained"), device="cpu")

    assert [type(module) for module in reloaded] == [Transformer, Pooling, Normalize]
    assert reloaded.max_seq_length == 64
    assert reloaded.similarity_fn_name == "cosine"
    assert (reloaded.encode_query(TEXTS) == student.encode_query(TEXTS)).all()
    assert (reloaded.encode_document(TEXTS) == student.encode(TEXTS, prompt="passage: ")).all()
    weights = load_file(tmp_path / "trained" / "model.safetensors")
    assert set(reloaded[0].model.state_dict()) == set(weights)  # a reload makes no pooler of random weights
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    config = json.loads((tmp_path / "trained" / "config.json").read_text())
    assert config["distilled_from_layers"] == LAYERS
    assert config["distilled_from"] == f"{family}@{weights_sha256(Path(sources[family]))[:12]}"
    assert config["matryoshka_dimensions"] == [32, 8]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_each_modernbert_layer_keeps_its_attention_pattern_through_save_and_load(sources, tmp_path):
    expected = ["full_attention", "full_attention", "sliding_attention", "full_attention"]
    student_of(sources["modernbert"]).save(str(tmp_path))

    encoder = AutoModel.from_pretrained(tmp_path)

    assert encoder.config.layer_types == expected
    assert [layer.attention_type for layer in encoder.layers] == expected
    default = type(encoder.config)(num_hidden_layers=4).layer_types
    assert default != expected  # what the student would have without layer_types


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_gets_a_gradient_as_distributed_data_parallel_demands(sources, family):
    student = student_of(sources[family])
    features = dict(student.tokenizer(TEXTS, padding=True, return_tensors="pt"))

    student(features)["sentence_embedding"][:, :5].sum().backward()

    assert [name for name, parameter in student.named_parameters() if parameter.grad is None] == []


def test_dropout_is_off_unless_asked_for(sources):
    features = {name: {module.p for module in student_of(sources["bert"], dropout=p).modules() if hasattr(module, "p")}
                for name, p in [("off", 0.0), ("on", 0.1)]}  # fmt: skip

    assert features == {"off": {0.0}, "on": {0.1}}


@pytest.mark.parametrize(
    ("how", "num_layers", "num_picked", "expected"),
    [
        ("uniform", 22, 6, [0, 4, 8, 12, 16, 20]),
        ("uniform", 6, 3, [0, 2, 4]),
        ("uniform_with_last", 22, 6, [0, 4, 8, 13, 17, 21]),
        ("uniform_with_last", 6, 3, [0, 2, 5]),
        ("uniform_with_last", 12, 6, [0, 2, 4, 7, 9, 11]),
        ("first", 22, 3, [0, 1, 2]),
        ("last", 22, 3, [19, 20, 21]),
        ([0, 7, 21], 22, 3, [0, 7, 21]),
        ("uniform", 4, 4, [0, 1, 2, 3]),
        ("uniform_with_last", 4, 4, [0, 1, 2, 3]),
    ],
)
def test_layers_are_picked_by_the_stated_rule(how, num_layers, num_picked, expected):
    assert pick_layers(num_layers, num_picked, how) == expected


@pytest.mark.parametrize(
    ("how", "num_layers", "num_picked", "message"),
    [
        ("uniform", 12, 13, "the source has 12 layers"),
        ("uniform", 12, 0, "the source has 12 layers"),
        ("uniform", 12, 5, "reach only 4"),
        ("uniform_with_last", 12, 1, "at least 2"),
        ("every_other", 12, 6, "uniform_with_last, first, last or a list"),
        ([0, 2, 2], 12, 3, "3 different layers in ascending order"),
        ([2, 0, 4], 12, 3, "ascending order"),
        ([0, 2, 12], 12, 3, "from 0 to 11"),
        ([-1, 2, 3], 12, 3, "from 0 to 11"),
        ([0, 2], 12, 3, "expected 3"),
    ],
)
def test_a_pick_that_cannot_be_made_is_refused(how, num_layers, num_picked, message):
    with pytest.raises(UserError, match=message):
        pick_layers(num_layers, num_picked, how)


def test_a_modernbert_pick_without_layer_0_is_refused_and_says_why(sources):
    with pytest.raises(UserError, match="no norm before its attention"):
        student_of(sources["modernbert"], "last", 3)

    assert student_of(sources["bert"], "last", 3)[0].model.config.distilled_from_layers == [4, 5, 6]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": [64, 32]}, "from 1 to 32"),
        ({"max_tokens": 513}, "at most 512 tokens"),
    ],
)
def test_what_the_source_is_too_small_for_is_refused(sources, settings, message):
    with pytest.raises(UserError, match=message):
        student_of(sources["xlm-roberta"], **settings)


def test_a_sentence_transformers_source_gives_its_encoder_and_says_what_is_left_behind(tmp_path, caplog):
    source = tiny_bi_encoder(tmp_path, num_layers=3)
    model = SentenceTransformer(source, device="cpu")
    assert (student_of(source, "first", 3).encode(TEXTS) == model.encode(TEXTS)).all()
    assert caplog.text == ""

    cls = [model[0], Pooling(32, pooling_mode="cls"), Dense(32, 16)]
    SentenceTransformer(modules=cls, device="cpu").save(source)
    student_of(source, "first", 3)
    assert "pools by cls" in caplog.text
    assert "Dense" in caplog.text


def broken(source: str, folder: Path, break_it) -> str:
    for path in Path(source).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    break_it(folder)
    return str(folder)


def without_one_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.5.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def of_another_family(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "is not a model: no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "only safetensors"),
        (lambda folder: (folder / "modules.json").write_text("{"), "cannot be loaded"),
        (truncated, "cannot be loaded"),
        (without_one_tensor, "lack encoder.layer.5.output.dense.weight of BertModel, which would be random"),
        (of_another_family, "family 'gpt2', expected one of modernbert, bert"),
    ],
)
def test_a_broken_source_is_refused_with_its_folder_and_what_to_do(sources, tmp_path, break_it, message):
    source = broken(sources["bert"], tmp_path, break_it)
    with pytest.raises(UserError, match=message) as raised:
        student_of(source)
    assert source in str(raised.value)


@pytest.mark.parametrize("source", ["no/such-model", "/no/such/folder", "file"])
def test_a_source_that_does_not_exist_is_refused(tmp_path, monkeypatch, source):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no folder here|there is no such folder|is a file; expected the folder"):
        student_of(source)


def test_a_source_with_prompts_gives_them_to_its_student_unless_the_recipe_has_others(tmp_path, caplog):
    prompts = {"query": "query: ", "passage": "passage: ", "sts": "same: "}
    source = tiny_bi_encoder(tmp_path / "source", num_layers=3, prompts=prompts)
    settings = Path(source, "config_sentence_transformers.json")
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"default_prompt_name": "passage"}))
    model = SentenceTransformer(source, device="cpu")

    student_of(source, "first", 3).save(str(tmp_path / "student"))

    student = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    assert student.prompts == {"query": "query: ", "document": "passage: "}
    assert (student.encode_query(TEXTS) == model.encode_query(TEXTS)).all()
    assert (student.encode_document(TEXTS) == model.encode(TEXTS, prompt_name="passage")).all()
    assert (student.encode(TEXTS) == model.encode(TEXTS)).all()  # by default as a passage
    assert "has prompts sts, which the student does not know" in caplog.text
    assert student_of(source, "first", 3, query_prompt="", passage_prompt="p ").prompts == {
        "query": "",
        "document": "p ",
    }
    config = with_prompts(DistillConfig(source_model=source, passage_prompt=""))
    assert (config.query_prompt, config.passage_prompt) == ("query: ", "")


def test_a_source_that_puts_texts_in_lower_case_has_a_student_that_does(tmp_path):
    source = tiny_encoder(tmp_path / "source", "modernbert", num_layers=3)  # its tokens are of lower-case words
    modules = [Transformer(source, do_lower_case=True), Pooling(32, pooling_mode="mean"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "model"))
    settings = tmp_path / "model" / "sentence_bert_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"do_lower_case": True}))

    student = student_of(str(tmp_path / "model"), "first", 3)
    student.save(str(tmp_path / "student"))

    for one in (student, load_student(str(tmp_path / "student"))):
        assert one.tokenizer(["Silver MOON"])["input_ids"] == one.tokenizer(["silver moon"])["input_ids"]


@pytest.mark.parametrize(
    ("modules", "changes", "told"),
    [
        ([Pooling(32, pooling_mode="lasttoken")], {}, "pools by lasttoken, the student by mean"),
        ([Pooling(32, pooling_mode="weightedmean")], {}, "pools by weightedmean"),
        ([Pooling(64, pooling_mode=["mean", "max"])], {}, "pools by mean and max"),
        ([Pooling(32, pooling_mode="mean", include_prompt=False)], {}, "leaves the prompt out of its mean"),
        ([Pooling(32, pooling_mode="mean"), LayerNorm(32)], {}, "has a LayerNorm module"),
        ([Pooling(32, pooling_mode="mean")], {"similarity_fn_name": "dot"}, "compares by dot, the student by cosine"),
        ([Pooling(32, pooling_mode="mean"), Normalize()], {"similarity_fn_name": "dot"}, ""),
        ([Pooling(32, pooling_mode="mean"), Normalize()], {}, ""),
    ],
)
def test_what_of_the_source_the_student_is_made_without_is_told_by_name(sources, tmp_path, modules, changes, told):
    SentenceTransformer(modules=[Transformer(sources["bert"]), *modules], device="cpu").save(str(tmp_path))
    settings = tmp_path / "config_sentence_transformers.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | changes))

    lines = list(left_behind(tmp_path, max_tokens=64))

    assert [line for line in lines if told and told in line] == lines
    assert len(lines) == bool(told)


def test_a_shorter_input_of_the_source_is_told(tmp_path):
    source = tiny_bi_encoder(tmp_path, num_layers=2)
    Path(source, "sentence_bert_config.json").write_text('{"max_seq_length": 32}')

    assert list(left_behind(tmp_path, max_tokens=64)) == ["reads 32 tokens, the student 64 (max_tokens)"]
    assert list(left_behind(tmp_path, max_tokens=32)) == []


def test_a_tokenizer_with_more_tokens_than_embeddings_is_refused(sources, tmp_path):
    shutil.copytree(sources["bert"], tmp_path / "source")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "source")
    tokenizer.add_tokens(["[QUERY]"])
    tokenizer.save_pretrained(tmp_path / "source")

    with pytest.raises(UserError, match=r"its tokenizer has \d+ tokens, its embeddings \d+ rows.*resize_token"):
        student_of(str(tmp_path / "source"))
