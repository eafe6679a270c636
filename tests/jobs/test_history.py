"""The graph of versions as a tree on a terminal, as plain lines anywhere else; in full where that is asked."""

import os
import sys

import pytest
from rich.cells import cell_len

from jobs.history import main
from jobs.options import RootOptions
from pipelines import curate
from pipelines.curate import CurateConfig
from pipelines.storage import Invocation, Tables
from tests.scored_versions import scored_rows, write_scored, write_triplets
from tests.terminals import written_to


@pytest.fixture
def root(tmp_path):
    """A curation, whose note is long and holds what is no markup here."""
    tables = Tables.at(str(tmp_path / "tables"), Invocation(note="[bold]文 " * 20 + "end"))
    rows = scored_rows([(f"query {number}", "a cat", 4.0, f"a dog {number}", -4.0) for number in range(4)])
    curate.run(write_scored(write_triplets(tables, rows), rows), CurateConfig())
    return RootOptions(tables=tables.uri)


@pytest.fixture
def shown(root, monkeypatch):
    """Gives the lines of a history on a terminal of 60 columns."""
    master, slave = os.openpty()
    monkeypatch.setenv("COLUMNS", "60")
    stream = open(slave, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a descriptor

    def lines(version, **options):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", stream)
            main(version, root=root, **options)
            stream.flush()
        return written_to(master).splitlines()

    yield lines
    stream.close()
    os.close(master)


def test_on_a_terminal_it_is_a_tree_of_a_line_a_version(shown):
    lines = shown("curated_triplets@0")

    starts = [line[:48] for line in lines]
    assert starts[0].startswith("curated_triplets@0  curate; from scored_triplets")
    assert starts[1].startswith("└─ scored_triplets@1  score; from triplets@0; no")
    assert starts[2].startswith("   └─ triplets@0  ingest; note: [bold]文 [bold")
    assert (len(lines), max(map(cell_len, lines))) == (3, 60)


def test_a_note_of_several_lines_or_with_escapes_stays_on_its_line(shown, root, capsys):
    triplets = write_triplets(
        Tables.at(root.tables, Invocation(note="a\nb\x1b[31mc")), scored_rows([("q", "p", 1.0, "n", 0.0)])
    )

    assert shown(str(triplets))[0] == f"{triplets}  ingest; note: a b\\u001b[31mc"
    main(str(triplets), root=root)
    assert capsys.readouterr().out.splitlines()[0] == f"{triplets!s:<24} ingest; note: a b\\u001b[31mc"


def test_in_full_it_is_a_tree_that_fits_and_leaves_nothing_out(shown):
    lines = shown("curated_triplets@0", in_full=True)

    at = [lines.index(name) for name in ("curated_triplets@0", "├─ scored_triplets@1", "│  └─ triplets@0")]
    assert at[0] == 0 < at[1] < at[2]
    assert lines[-1] == "└─ triplets@0  see above"
    assert max(map(cell_len, lines)) <= 60
    assert all(line.startswith("│  ") for line in lines[1 : at[1]])
    assert all(line.startswith("│  │  ") for line in lines[at[1] + 1 : at[2]])
    below = " ".join(line.removeprefix("│  ") for line in lines[1 : at[1]])
    assert below.startswith("curate; from scored_triplets@1, triplets@0; config ")
    assert "".join(below.split()).endswith("note:" + "[bold]文" * 20 + "end")


def test_what_was_made_from_a_version_hangs_below_it(shown):
    lines = shown("triplets@0", downstream=True)

    assert [line.lstrip("├└─│ ").split()[0] for line in lines] == [
        "triplets@0",
        "scored_triplets@0",
        "scored_triplets@1",
        "curated_triplets@0",
        "dropped_triplets@0",
    ]


def test_anywhere_else_and_of_all_tables_it_is_a_line_a_version(root, shown, capsys):
    main("curated_triplets@0", root=root)

    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("curated_triplets@0       curate; from scored_triplets@1, triplets@0; note: ")
    assert second.startswith("  scored_triplets@1        ")
    main("curated_triplets@0", root=root, in_full=True)
    *_, last = lines = capsys.readouterr().out.splitlines()
    assert "from scored_triplets@1, triplets@0; config " in lines[0]
    assert (len(lines), last.split()) == (4, ["triplets@0", "see", "above"])
    listed = shown("scored_triplets")
    assert [line.split()[0] for line in listed] == ["scored_triplets@1", "scored_triplets@0"]
    assert all(cell_len(line) == 60 and line.endswith("…") for line in listed)
    assert all(line.endswith("文 end") for line in shown("scored_triplets", in_full=True))
