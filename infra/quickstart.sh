#!/usr/bin/env bash
# The whole flow on two CPU cores, with text and weights that the installation brought: bash infra/quickstart.sh ["your question"]
#
# Act 1 finds the rotten source among six and survives kill -9; act 2 distils a model of half its teacher's layers
# and reproduces it. Everything is written under quickstart/, which each run makes anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source infra/setup.sh

work=quickstart
rotten=sklearn
export TABLES=$work/tables HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false TQDM_DISABLE=1
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled
export MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_THRESHOLD_=4000000000 # glibc gives nothing back between batches

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

step() { # runs a command, shown first; a failure says how to go on
  printf '\033[2m$ %s\033[0m\n' "$*" >&2
  "$@" || {
    local code=$?
    printf '\nThis step failed (exit %s). Once its message is dealt with, run it again:\n  source .venv/bin/activate; export TABLES=%s HF_HUB_OFFLINE=1 RAY_AUTH_MODE=disabled\n  %s\n' \
      "$code" "$TABLES" "$(printf '%q ' "$@")" >&2
    exit "$code"
  }
}

score_and_kill() { # starts the scorer, kills it with -9 at a random moment after its first commit
  python -m jobs score --recipe quickstart --vectors &
  local scorer=$!
  until [[ -e $TABLES/teacher_vectors/_delta_log/00000000000000000001.json ]]; do
    kill -0 "$scorer" 2>/dev/null || { wait "$scorer" || true; return; } # failed or done: the next run tells
    sleep 0.2
  done
  sleep $((RANDOM % 3))
  if kill -9 "$scorer" 2>/dev/null; then
    say "kill -9 $scorer: the scorer is dead. The same command goes on where its last commit stands:"
  fi
  wait "$scorer" 2>/dev/null || true
}

count_scored() {
  python - <<'PYTHON'
import os

import polars as pl

triplets = pl.scan_delta(os.environ["TABLES"] + "/triplets").select("triplet_id").collect()
scored = pl.scan_delta(os.environ["TABLES"] + "/scored_triplets").select("triplet_id").collect()
lost = triplets.join(scored, on="triplet_id", how="anti").height
twice = scored.height - scored.n_unique()
print(f"{triplets.height:,} triplets, {scored.height:,} scored: {lost} lost, {twice} twice")
if lost or twice:
    raise SystemExit("the scores are not exactly once")
PYTHON
}

act_1() {
  say "Act 1: which source is rotten?"
  step python -m infra.docstring_pairs --output $work/pairs.parquet
  step python -m jobs mine --tables $work/mined --recipe quickstart --input $work/pairs.parquet
  say "Now $rotten goes bad: 30 % of its triplets are swapped, in some a true positive is the negative."
  step python -m infra.damage --tables $work/mined --source $rotten --output $work/triplets.parquet --truth $work/truth.parquet
  step python -m jobs ingest --recipe quickstart --input $work/triplets.parquet
  say "The teacher reads every pair. In a moment this script kills it."
  score_and_kill
  step python -m jobs score --recipe quickstart --vectors
  count_scored
  curated=$(step python -m jobs curate --recipe quickstart)
  say "One line of SQL names the rotten source:"
  step python -m jobs query "SELECT source, COUNT(*) AS triplets, ROUND(100 * AVG(CASE WHEN negative_score > positive_score \
THEN 1.0 ELSE 0.0 END), 1) AS disagreement_percent FROM scored_triplets GROUP BY source ORDER BY 3 DESC"
  say "What was damaged is known, so curation can be judged:"
  step python -m infra.judge_noise --tables $TABLES --truth $work/truth.parquet
  say "A tighter rule, and what it moves:"
  local tighter
  tighter=$(step python -m jobs curate --recipe quickstart --set curate.bi_encoder.min_teacher_margin=0.05)
  step python -m jobs diff "$curated" "$tighter"
}

act_2() {
  say "Act 2: a model of half the layers"
  step python -m jobs distill --recipe quickstart --from "$curated" --name docstrings
  step python -m jobs evaluate --recipe quickstart --model docstrings --on "$curated"
  step python -m jobs publish --model docstrings --to $work/model
  say "Plain sentence-transformers answers:"
  step python -m infra.ask --model $work/model --passages $work/pairs.parquet "${questions[@]}"
  say "The same model again, from its table version and recipe:"
  step python -m jobs reproduce --model docstrings
  say "And all of it on one page, to open or to mail: $work/report.html"
  step python -m jobs report --from "$curated" --model docstrings --to $work/report.html
}

next_steps() {
  cat >&2 <<TEXT

Yours now, after: source .venv/bin/activate; export TABLES=tables
  your own file (query, positive, negative; JSON Lines, CSV, Parquet), to a model:
    python -m jobs run --recipe quickstart --input FILE --name NAME
  only pairs, no negatives:        python -m jobs mine --recipe quickstart --input FILE
  a real cross-encoder, from a hub: python -m jobs score --set score.teacher=BAAI/bge-reranker-v2-m3 --set score.teacher_kind=cross_encoder
  the guide's full recipe, on a GPU: python -m jobs run --recipe modernbert_small_v2 --input FILE --name NAME
  on a Ray cluster:                python -m jobs submit --address http://HEAD:8265 -- run --tables s3://BUCKET/PREFIX ...
  what the page shows:             open $work/report.html (from disk; it loads nothing)
  another question:                python -m infra.ask --model $work/model --passages $work/pairs.parquet "your question"
TEXT
}

questions=("${@:-}")
if [[ -z ${questions[0]} ]]; then
  questions=("How do I split data into training and test sets?" "run a function on many machines in parallel" "read a CSV file lazily")
fi
say "Two acts: 1, without training, about 1 minute; 2, with training, about 3; on a slow processor without bf16, about 3.5 and 12 (two cores that have nothing else to do). Installing the packages, if they are not there yet, about 1 to 5 (packages near by). Working folder: quickstart/, made anew by each run."
setup
source .venv/bin/activate
mkdir -p $work
rm -rf $work/tables $work/mined $work/model
act_1
act_2
next_steps
