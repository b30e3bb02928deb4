"""A small corpus of one made-up company, drawn from scratch, with questions whose answers and boxes are known."""
