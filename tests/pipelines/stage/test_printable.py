"""What a terminal is shown of a text: letters of any script, and nothing that acts on it or hides."""

import pytest

from pipelines.stage.printable import counted, on_one_line, printable
from pipelines.stage.progress import tell

HOSTILE = "a\x1b[31mred\x07\x00\u202eb\u200b\U000e0041"
SHOWN = r"a\u001b[31mred\u0007\u0000\u202eb\u200b\U000e0041"


@pytest.mark.parametrize("text", ["", "plain", "文 été 😀 हिन्दी"])
def test_letters_of_any_script_stay(text):
    assert printable(text) == text


def test_what_acts_or_hides_is_written_out():
    assert printable(HOSTILE) == SHOWN
    assert printable("a\nb\tc") == r"a\u000ab\u0009c"
    assert printable("a\nb\tc", kept="\n\t") == "a\nb\tc"
    assert on_one_line(" a\n b\x85c ") == "a b c"


def test_a_line_that_is_told_cannot_act_on_the_terminal(capsys):
    tell(f"mine: {HOSTILE}\n  of two lines")
    assert capsys.readouterr().err == f"mine: {SHOWN}\n  of two lines\n"


@pytest.mark.parametrize(("number", "told"), [(0, "0 queries"), (1, "1 query"), (1234, "1,234 queries")])
def test_one_is_not_many(number, told):
    assert counted(number, "query", "queries") == told
    assert counted(number, "row") == told.replace("queries", "rows").replace("query", "row")
