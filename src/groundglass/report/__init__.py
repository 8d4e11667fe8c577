"""One self-contained HTML page for a run, an evaluation or a prediction."""
