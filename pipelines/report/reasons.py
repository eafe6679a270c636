"""What each reason of a curation means, in a sentence for who has never read the rules; see curation/rules.py."""

MEANINGS = {
    "swapped": "The teacher clearly prefers the negative, and no other row of the query speaks for the positive: they "
    "had changed places, and were exchanged.",
    "promoted": "The negative answers the query as well as a positive: it became the positive, against a true negative "
    "of the same query.",
    "relabelled": "A judge, a language model, says that the negative answers the query: it became the positive, "
    "against a true negative of the same query.",
    "judged_relevant": "A judge, a language model, says that the negative answers the query: it is no negative.",
    "positive_judged_irrelevant": "A judge, a language model, says that the positive does not answer the query.",
    "teacher_prefers_negative": "The teacher scores the negative higher than the positive, and no correction applied.",
    "margin_too_small": "The teacher sees hardly a difference between positive and negative.",
    "negative_too_relevant": "The negative is relevant, too: a false negative, which would teach the wrong thing.",
    "positive_too_irrelevant": "The positive scores less than is asked of one: it hardly answers the query.",
    "equal_when_cut": "Both passages are the same as far as the teacher reads: what differs lies beyond max_tokens.",
    "no_negative_left": "It would have been corrected, but the query has no true negative to put against it. It is "
    "shown as it came.",
    "duplicate_after_correction": "Its negative, or its positive, plays the other part in its query: corrected, it "
    "would have been the same as another row. It is shown as it came.",
    "positive_in_training": "Its query is held out for tests, but a row in training has the same positive: it would "
    "leak.",
    "scoring_failed": "The teacher could not score it.",
    "positive_is_negative": "Positive and negative are the same text.",
    "score_not_finite": "A score is infinite or not a number.",
    "text_in_evaluation_set": "One of its texts stands in an evaluation set: training on it would be cheating.",
}


def meaning(reason: str) -> str:
    """A sentence; of a reason that another program or a newer rule gave, its name."""
    return MEANINGS.get(reason, f"{reason.replace('_', ' ').capitalize()}.")
