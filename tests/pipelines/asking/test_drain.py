"""What drain does with the rows that came: none is lost where a commit fails."""

import json

import pytest

from pipelines import generate
from pipelines.asking.book import Book
from pipelines.generation.config import GenerateConfig
from pipelines.storage import Tables
from tests.llm_endpoint import Faults, serving


def ran(tmp_path, server, **values):
    tables, passages = Tables.at(str(tmp_path / "tables")), tmp_path / "p.jsonl"
    passages.write_text("".join(json.dumps({"text": f"red fish {name} swim"}) + "\n" for name in "abcd"))
    generate.run(tables, [str(passages)], GenerateConfig(endpoint=server.url, model="rules", ranker="seed", **values))
    return tables


def test_rows_whose_commit_failed_are_committed_at_the_end(tmp_path, monkeypatch):
    commit, tries = Book.commit, []

    def fails_once(self, rows, known=None):
        tries.append(len(rows))
        if len(tries) == 1:
            raise OSError("the disk is full")
        return commit(self, rows, known)

    monkeypatch.setattr(Book, "commit", fails_once)
    with serving(Faults(latency_s=0.05)) as server, pytest.raises(OSError, match="the disk is full"):
        ran(tmp_path, server, commit_every_s=0.0)

    rows = Tables.at(str(tmp_path / "tables")).latest("generated_queries").scan().collect()
    assert len(rows) >= tries[0] >= 1
