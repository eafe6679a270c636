"""Versions as a tree: what is drawn before each, to the letter; who made what is asked in tests/test_flow.py."""

from pipelines.inspection.graph import branches


def test_each_node_hangs_on_its_parent_and_what_is_said_of_it_stands_below_it():
    names = ["models@0", "curated@0", "scored@0", "triplets@0", "vectors@0", "triplets@0"]
    drawn = branches([0, 1, 2, 3, 1, 2])

    lines = [
        line for (before, below), name in zip(drawn, names, strict=True) for line in (before + name, below + "said")
    ]
    assert lines == [
        "models@0",
        "│  said",
        "├─ curated@0",
        "│  │  said",
        "│  └─ scored@0",
        "│     │  said",
        "│     └─ triplets@0",
        "│           said",
        "└─ vectors@0",
        "   │  said",
        "   └─ triplets@0",
        "         said",
    ]


def test_several_below_one_and_roots_alone():
    assert [before for before, _ in branches([0, 1, 1, 1])] == ["", "├─ ", "├─ ", "└─ "]
    assert branches([0]) == [("", "   ")]
    assert branches([]) == []
