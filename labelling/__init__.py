"""Labels of pairs: sampled traffic, answers of people, and what follows from them."""
