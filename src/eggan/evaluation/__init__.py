"""One protocol for every method (DESIGN, "Evaluation"): figures, their intervals, and the report."""
