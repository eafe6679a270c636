"""Tiny models of real architectures, built in process and saved to a folder: no network, the same weights for a seed.

Each has a real fast tokenizer of its family's kind that turns any text into tokens: common words are
one token, all else is spelled. Weights are random but wide, so that different texts get different vectors and scores.
"""

import string
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    MPNetTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    XLMRobertaTokenizer,
)

Family = Literal["bert", "modernbert", "mpnet", "xlm-roberta"]

MAX_TOKENS = 512
WORDS = (
    "a about above after all also an and any are as at be because between big bird blue book by can capital car cat "
    "cell cheese city cold colour count country dance day deep dog drink earth eat fast fish flower food for forest "
    "from game garden gold good green heart heat high horse hot house how ice in is it king language large law light "
    "long low made many map market milk model money moon mountain music new night north not of old on one or paper "
    "passage people plant poison price queen query rain red river road sea short silver sky sleep slow small snow "
    "south star stone story sun table that the to tree two water what when where which white who why wind winter with "
    "word year yellow"
).split()
CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation


def tiny_encoder(
    folder: str | PathLike[str],
    family: Family = "bert",
    num_layers: int = 4,
    hidden_size: int = 32,
    seed: int = 0,
    words: Sequence[str] = (),
) -> str:
    """An encoder without a head; `words` are further words that are one token each. Returns the folder."""
    tokenizer = tiny_tokenizer(family, words)
    config = _config(family, tokenizer, num_layers, hidden_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(config)
    return _save(folder, model, tokenizer)


def tiny_cross_encoder(
    folder: str | PathLike[str],
    num_labels: int = 1,
    family: Family = "bert",
    num_layers: int = 2,
    hidden_size: int = 32,
    seed: int = 0,
) -> str:
    """A sequence-classification model with `num_labels` outputs. Returns the folder."""
    tokenizer = tiny_tokenizer(family)
    config = _config(family, tokenizer, num_layers, hidden_size)
    config.num_labels = num_labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
    return _save(folder, model, tokenizer)


def tiny_bi_encoder(
    folder: str | PathLike[str],
    family: Family = "bert",
    num_layers: int = 2,
    hidden_size: int = 32,
    seed: int = 0,
    prompts: dict[str, str] | None = None,
) -> str:
    """A sentence-transformers folder: Transformer, Pooling(mean), Normalize, its own prompts. Returns the folder."""
    encoder = tiny_encoder(folder, family, num_layers, hidden_size, seed)
    transformer = Transformer(encoder)
    modules = [transformer, Pooling(hidden_size, pooling_mode="mean"), Normalize()]
    model = SentenceTransformer(modules=modules, prompts=prompts, similarity_fn_name="cosine", device="cpu")
    model.save(encoder, create_model_card=False)
    return encoder


def texts(num_texts: int, seed: int, max_words: int = 20) -> list[str]:
    """Texts of common words, each known to the tiny tokenizers; never with the word "poison"."""
    rng = np.random.default_rng(seed)
    words = [word for word in WORDS if word != "poison"]
    return [" ".join(rng.choice(words, size=rng.integers(1, max_words))) for _ in range(num_texts)]


def edit_weights(folder: str, edit: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the saved weights of a folder."""
    path = Path(folder, "model.safetensors")
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


def poison(folder: str) -> str:
    """Make the embedding of the word "poison" NaN, as damage in a real checkpoint would. Returns the folder."""
    row = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("poison")

    def fill(weights: dict[str, Tensor]) -> None:
        (name,) = (name for name in weights if name.endswith("word_embeddings.weight"))
        weights[name][row].fill_(torch.nan)

    edit_weights(folder, fill)
    return folder


def tiny_tokenizer(family: Family = "bert", words: Sequence[str] = ()) -> PreTrainedTokenizerBase:
    """WordPiece for bert and mpnet, byte-level BPE for modernbert, Unigram for xlm-roberta."""
    vocabulary = list(dict.fromkeys([*WORDS, *words]))
    if family == "bert":
        specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        return BertTokenizer(vocab=_word_pieces(specials, vocabulary), model_max_length=MAX_TOKENS)
    if family == "mpnet":
        specials = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"]
        return MPNetTokenizer(vocab=_word_pieces(specials, vocabulary), model_max_length=MAX_TOKENS)
    if family == "xlm-roberta":
        specials = ["<s>", "<pad>", "</s>", "<unk>"]
        pieces = [(f"▁{word}", -5.0) for word in vocabulary] + [(piece, -10.0) for piece in ["▁", *CHARACTERS]]
        unigrams = [(special, 0.0) for special in specials] + pieces + [("<mask>", 0.0)]
        return XLMRobertaTokenizer(vocab=unigrams, model_max_length=MAX_TOKENS)
    if family == "modernbert":
        return _byte_level_bpe(vocabulary)
    raise ValueError(f"family is {family!r}, expected bert, modernbert, mpnet or xlm-roberta")


def _word_pieces(specials: list[str], words: list[str]) -> dict[str, int]:
    pieces = [*specials, *words, *CHARACTERS, *(f"##{character}" for character in CHARACTERS)]
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}


def _byte_level_bpe(words: list[str]) -> PreTrainedTokenizerBase:
    """Merges that spell each word (with the space before it) from its bytes, left to right."""
    specials = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        for end in range(len(word)):
            merges[("Ġ" + word[:end], word[end])] = None
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*specials, *alphabet, *("".join(merge) for merge in merges)]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=MAX_TOKENS,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )


def _config(family: Family, tokenizer: PreTrainedTokenizerBase, num_layers: int, hidden_size: int) -> PreTrainedConfig:
    """The family's config at tiny size; the vocabulary, the special tokens and the positions fit the tokenizer."""
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": 2,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "initializer_range": 0.3,
    }
    if family == "modernbert":
        special_ids = {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
        wide = {"initializer_cutoff_factor": 3.0, "local_attention": 16}
        return AutoConfig.for_model(family, **sizes, **special_ids, **wide, max_position_embeddings=8192)
    shifted = 0 if family == "bert" else 2  # RoBERTa and MPNet count positions from pad_token_id + 1
    return AutoConfig.for_model(family, **sizes, max_position_embeddings=MAX_TOKENS + shifted)


def _save(folder: str | PathLike[str], model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> str:
    model.eval().save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return str(folder)
