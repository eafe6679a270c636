from infra.docstring_pairs import docstring_pairs, is_usable, split_docstring

DOCSTRING = """Solve a linear system. The matrix may be sparse.

Iterates until the residual is small enough, or the number of steps is used up.

Args:
    a: The matrix.
"""


def test_summary_is_the_query_and_the_passage_ends_before_the_parameters():
    query, passage = split_docstring("solveSparse_system", DOCSTRING)

    assert query == "Solve a linear system."
    assert passage == (
        "solve sparse system: The matrix may be sparse. Iterates until the residual is small enough, "
        "or the number of steps is used up."
    )


def test_numpy_and_sphinx_parameter_lists_and_markup_are_left_out():
    numpy = "Fit it.\n\nUses :class:`Model` **once**.\n\nParameters\n----------\nx : int"
    sphinx = "Fit it.\n\nUses ``Model``.\n:param x: the data"

    assert split_docstring("fit", numpy)[1] == "fit: Uses Model once."
    assert split_docstring("fit", sphinx)[1] == "fit: Uses Model."


def test_a_passage_that_repeats_its_query_or_a_summary_that_is_a_parameter_is_no_pair():
    long = "words " * 20

    assert is_usable("Solve a large linear system.", long)
    assert not is_usable("Solve a large linear system.", f"{long} Solve a large linear system.")
    assert not is_usable("x (int, optional): The number of steps.", long)
    assert not is_usable("Löse ein großes lineares System.", long)


def test_pairs_are_the_same_each_time_with_each_passage_once():
    first, second = docstring_pairs(["json", "pydantic"]), docstring_pairs(["json", "pydantic"])

    assert first.equals(second)
    assert first.columns == ["query", "positive", "source", "external_id"]
    assert set(first["source"]) <= {"json", "pydantic"}
    assert first["positive"].is_unique().all()
    assert first.height > 20
