"""What the model is told, as texts with {places}; a recipe may have its own in their stead.

The first asks for a task and a query that a passage answers, the second for a grade of each candidate. Source: Gecko,
Lee et al. 2024, https://arxiv.org/abs/2403.20327 (the query is written first, then passages are retrieved for it and
judged by the same model; there by two prompts, here by one); the grades are those of TREC's judgements, 0 to 3.
"""

from collections.abc import Sequence

from pipelines.asking.prompts import filled

WRITE = """\
Below is a passage. Imagine a reader whom it helps, and write what this reader would have searched for.

- task: what kind of search this is, in one sentence, e.g. "Given a question, find a passage that answers it".
- query: what the reader types: a question, some keywords or a claim. It is understood without the passage, does not \
copy its sentences, and the passage answers it.

Answer with one JSON object and nothing else: {"task": "...", "query": "..."}
If there is nothing in the passage that anyone would search for: {"task": "", "query": ""}

Passage:
{passage}"""

RANK = """\
Task: {task}
Query: {query}

Grade each of the {count} passages below for this task and query:
3 answers it fully; 2 answers a part of it; 1 is about the same subject and does not answer it; 0 is about another.

{candidates}

Answer with one JSON object and nothing else, a grade by each passage's number: {"grades": {"1": 0, "2": 3}}"""

WRITE_PLACES = ("passage",)
RANK_PLACES = ("task", "query", "count", "candidates")


def write_prompt(prompt: str, passage: str, max_chars: int) -> str:
    """What is asked of a passage, of which so many characters are shown."""
    return filled(prompt, {"passage": passage[:max_chars]})


def rank_prompt(prompt: str, task: str, query: str, candidates: Sequence[str], max_chars: int) -> str:
    """What is asked of a query and its candidates, of each of which so many characters are shown; numbered from 1."""
    shown = "\n\n".join(f"[{number}] {text[:max_chars]}" for number, text in enumerate(candidates, 1))
    values = {"task": task, "query": query, "count": str(len(candidates)), "candidates": shown}
    return filled(prompt, values)
