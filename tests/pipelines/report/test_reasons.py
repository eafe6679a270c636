"""Every reason that the rules give has a sentence for who does not know the rules."""

import ast
import inspect

from pipelines.curation import rules
from pipelines.report.reasons import MEANINGS, meaning


def test_every_reason_of_the_rules_is_explained_and_no_other():
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(rules))) if isinstance(node, ast.Call)]
    named = {
        keyword.arg
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "first_that_fires"
        for keyword in call.keywords
    }

    assert named == set(MEANINGS)


def test_an_unknown_reason_is_told_by_its_name():
    assert meaning("too_loud") == "Too loud."
