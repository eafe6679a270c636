"""What the model is shown: places are filled once, and texts are cut."""

from pipelines.asking.prompts import missing_places
from pipelines.generation.prompts import RANK, RANK_PLACES, WRITE, rank_prompt, write_prompt


def test_braces_of_a_passage_stay_as_they_are():
    assert write_prompt("of {passage}: {x}", "a {passage} {task}", 100) == "of a {passage} {task}: {x}"


def test_of_a_long_passage_the_beginning_is_shown():
    assert write_prompt("{passage}", "abcdef", 3) == "abc"


def test_candidates_are_numbered_from_one_and_cut():
    prompt = rank_prompt("{task}|{query}|{count}|{candidates}", "find", "who {count}?", ["first", "second"], 4)

    assert prompt == "find|who {count}?|2|[1] firs\n\n[2] seco"


def test_our_own_prompts_have_their_places_and_one_without_is_told():
    assert missing_places(WRITE, ["passage"]) == missing_places(RANK, RANK_PLACES) == []
    assert missing_places("grade {query}", RANK_PLACES) == ["{task}", "{count}", "{candidates}"]
