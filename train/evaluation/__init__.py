"""Evaluation: scores of labelled clips on the exported model, and metrics of them; no pictures."""
