"""Audits of labels: which of them are wrong by mistake, and which by intent.

`predictors` predicts the label of every row out of fold. `label_errors` compares labels with these
predictions and lists doubtful ones for a person to review. For fresh labels that may be hostile,
`expected_labels` predicts the right labels, `contradictions` tests sets of labels against
predictions, and `hold_back` decides which sources and groups are held back.
"""
