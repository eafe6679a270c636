"""Asks a published model with plain sentence-transformers: the three best passages of a file for each question."""

import argparse
from pathlib import Path

import polars as pl
from sentence_transformers import SentenceTransformer, util


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="the folder that `publish` made")
    parser.add_argument("--passages", type=Path, required=True, help="Parquet file with a column `positive`")
    parser.add_argument("questions", nargs="+")
    arguments = parser.parse_args()
    if not Path(arguments.model, "modules.json").is_file():
        parser.error(f"--model {arguments.model}: no modules.json in there; expected the folder that `publish` made")
    try:
        passages = pl.read_parquet(arguments.passages, columns=["external_id", "positive"])
    except (pl.exceptions.PolarsError, OSError) as error:
        told = str(error).partition("\n")[0]
        parser.error(f"--passages {arguments.passages}: {told}; expected Parquet with external_id and positive")
    passages = passages.unique("positive", keep="first", maintain_order=True)
    model = SentenceTransformer(arguments.model)
    vectors = model.encode_document(passages["positive"].to_list(), convert_to_tensor=True)
    questions = model.encode_query(arguments.questions, convert_to_tensor=True)
    for question, hits in zip(arguments.questions, util.semantic_search(questions, vectors, top_k=3), strict=True):
        print(f"\n{question}")
        for hit in hits:
            external_id, passage = passages.select("external_id", "positive").row(int(hit["corpus_id"]))
            print(f"  {hit['score']:.2f}  {external_id}\n        {passage[:110]}")


if __name__ == "__main__":
    main()
