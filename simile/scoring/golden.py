"""Golden pairs: fixed sentences whose scores every bundle stores.

They show when a machine computes other scores than the machine that made the bundle.
"""

GOLDEN_PAIRS: tuple[tuple[str, str], ...] = (
    ("My card has not arrived yet.", "I'm still waiting for the new card you posted two weeks ago."),
    ("My card has not arrived yet.", "Somebody took my card out of my bag."),
    ("How do I send these shoes back?", "what's the procedure for a return"),
    ("How do I send these shoes back?", "The shoes never came."),
    ("The water was cold.", "A cold drink of water."),
    ("no signal since this morning", "My phone shows no bars at all today, neither at home nor in the office."),
    ("A.", "A single letter and a full stop is a text as well."),
    (
        "The train was late, the hotel had lost our booking, and it rained for three days, but the food was good and "
        "the people in the village went out of their way to help us, so we would go there again.",
        "In spite of the delay, the weather and the trouble with the room we liked the place and would return.",
    ),
)
