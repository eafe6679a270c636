#!/usr/bin/env bash
# How this root was made, in a checkout of commit 2bb8cc9: bash tests/frozen/2bb8cc9/make.sh
# Two teachers, two curations of the same scores, a model, its evaluation, and rows that came after.
set -euo pipefail
here=tests/frozen/2bb8cc9
export TABLES=$here/tables HF_HUB_OFFLINE=1 RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0
rm -rf $TABLES $here/encoder $here/judge

python - <<'PYTHON'
import json
import random

import tests.tiny as tiny

here = "tests/frozen/2bb8cc9"
tiny.MAX_TOKENS = 64
tiny.tiny_bi_encoder(f"{here}/encoder", num_layers=3, hidden_size=8)
tiny.tiny_cross_encoder(f"{here}/judge", num_layers=1, hidden_size=8)


def row(number):
    words = random.Random(number).sample(tiny.WORDS, 16)
    return {"query": words[:4], "positive": words[1:8], "negative": [words[8:12], words[12:]]}


def text(words):
    return " ".join(words)


with open(f"{here}/triplets.jsonl", "w") as file:
    for number in range(50):
        made = row(number)
        negatives = [text(words) for words in made["negative"]]
        line = {"query": text(made["query"]), "positive": text(made["positive"]), "negative": negatives}
        file.write(json.dumps(line | {"external_id": f"row-{number}"}) + "\n")
    file.write('{"query": "a query without a positive", "negative": ["a"]}\n')
with open(f"{here}/pairs.jsonl", "w") as file:
    for number in range(50, 70):
        made = row(number)
        file.write(json.dumps({"query": text(made["query"]), "positive": text(made["positive"])}) + "\n")
with open(f"{here}/later.jsonl", "w") as file:
    for number in range(70, 80):
        made = row(number)
        line = {"query": text(made["query"]), "positive": text(made["positive"]), "negative": text(made["negative"][0])}
        file.write(json.dumps(line) + "\n")
PYTHON

recipe="--recipe $here/recipe.toml"
judge="--set score.teacher=$here/judge --set score.teacher_kind=cross_encoder"
python -m jobs ingest $recipe --input $here/triplets.jsonl --source books --licence CC-BY-4.0 --note "the first rows"
python -m jobs mine $recipe --input $here/pairs.jsonl
python -m jobs score $recipe --vectors
scored=$(python -m jobs score $recipe $judge)
encoder=$(python -m jobs query "SELECT DISTINCT teacher FROM scored_triplets" --json | grep -o 'encoder@[0-9a-f]*')
judged=$(python -m jobs query "SELECT DISTINCT teacher FROM scored_triplets" --json | grep -o 'judge@[0-9a-f]*')
curated=$(python -m jobs curate $recipe --from "$scored" --teacher "$encoder")
python -m jobs curate $recipe --from "$scored" --teacher "$judged"
python -m jobs distill $recipe --from "$curated" --name small
python -m jobs evaluate $recipe --model small --on "$curated"
python -m jobs ingest $recipe --input $here/later.jsonl
find $here -name '*.lock' -delete
