"""What a generation will cost: the characters of its prompts, which are known of each passage up to the candidates that
its query will find (pipelines/asking/price.py does the rest).
"""

import polars as pl

from pipelines.asking.book import Plan
from pipelines.asking.price import Price
from pipelines.asking.price import price as price_of
from pipelines.generation.config import GenerateConfig


def price(left: Plan, known: pl.DataFrame, passages: pl.DataFrame, config: GenerateConfig) -> Price:
    """From rows of the same generator over some passages, `known`: passage, reason, calls and tokens of each."""
    calls = 2 if config.ranker == "llm" else 1
    chars, is_good = _prompt_chars(passages, config), pl.col("reason").is_null()
    return price_of(left, known, config, chars=chars, calls=calls, is_good=is_good)


def _prompt_chars(passages: pl.DataFrame, config: GenerateConfig) -> pl.Expr:
    """Characters of a passage's prompts: of the first as it is, of the second with candidates of the mean length."""
    fixed, text = float(len(config.write_prompt)), pl.col("passage").str.len_chars()
    if config.ranker == "llm":
        shown = passages.select(text.clip(upper_bound=config.candidate_chars).mean()).item()
        fixed += len(config.rank_prompt) + min(config.candidates, len(passages)) * (shown + len("[10] \n\n"))
    return text.clip(upper_bound=config.passage_chars) + fixed
