"""Bugs in which node leads one of several partitions, and when it is handed over."""

from typing import Final

from tests.simulation.mutants.mutant import Edit, Mutant

PLACEMENT: Final = "esnode.upkeep.placement"
LEADERSPREAD: Final = "esnode.upkeep.leaderspread"
DECISIONS: Final = "tests/upkeep/test_placement.py"

PLACING: Final = (
    Mutant(
        "hands-over-as-soon-as-connected",
        "decision 90",
        "a node is handed the leadership of its partition as soon as it is connected and caught up, however"
        " often it has just ended",
        "T",
        (
            Edit(
                PLACEMENT,
                "return min(limits.LEADER_FIT_S * 2.0 ** min(self.losses, 16), most_s)",
                "return min(0.0, most_s)",
            ),
        ),
        f"{DECISIONS}::test_another_leader_hands_over_once_the_node_was_fit_for_a_while",
    ),
    Mutant(
        "hands-over-again-and-again",
        "decision 90",
        "after a hand-over that nobody has taken, the next one follows after the same short pause",
        "T",
        (Edit(PLACEMENT, "candidate.losses += 1", "candidate.losses += 0"),),
        f"{DECISIONS}::test_a_hand_over_that_nobody_takes_is_tried_again_after_pauses_that_grow",
    ),
    Mutant(
        "undoes-what-an-operator-wants",
        "decision 90",
        "a leader that an operator has chosen hands the leadership back at once",
        "T",
        (Edit(PLACEMENT, "if is_asked and kept_s > 0:", "if is_asked and kept_s > 3600:"),),
        f"{DECISIONS}::test_whom_an_operator_has_chosen_leads_for_ten_minutes",
    ),
    Mutant(
        "keeps-a-choice-over-a-restart",
        "decision 93",
        "what was moved away from a node before its restart stays away for ten minutes",
        "T",
        (Edit(PLACEMENT, "is_over = home is not None and home.is_new", "is_over = False"),),
        f"{DECISIONS}::test_a_choice_ends_when_the_node_that_it_was_taken_from_was_restarted",
    ),
    Mutant(
        "gives-its-partitions-to-one-node",
        "decision 90",
        "all partitions of a node that is away go to the same node",
        "T",
        (Edit(PLACEMENT, "load[least] += 1", "load[least] += 0"),),
        f"{DECISIONS}::test_whoever_is_away_the_others_lead_about_as_many_and_keep_their_own",
    ),
    Mutant(
        "substitute-never-gives-it-back",
        "decision 90",
        "a node that leads while another one is away does not notice that the other one is back",
        "T",
        (
            Edit(
                LEADERSPREAD,
                "is_at_home = verdict.why is Why.PLACED and verdict.to == self._placement.preferred",
                "is_at_home = verdict.why is Why.PLACED",
            ),
        ),
        "tests/upkeep/test_leaderspread.py::test_a_substitute_gives_it_back",
    ),
)
