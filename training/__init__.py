"""Training: from labelled examples to a chosen, fitted and calibrated classifier.

Read in this order: `linear_models` and `boosted_trees` fit models on soft labels; `baselines` and
`folds` are for every comparison; `learners` and `recipes` describe the parts of a classifier;
`cross_validation`, `hyperparameters` (with `optuna_search`) and `model_selection` compare
candidates and choose one; `calibration` and `venn_abers` make and check probabilities; `fit` does
all of this, and `nested` evaluates it. `checkpoints` and `embedding_cache` save work between runs.

`encoders` makes encoders from the log; `label_audit` looks for wrong labels.
"""
