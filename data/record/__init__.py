"""The record of a retrain loop: every example ever accepted, and the training data drawn from it.

Read `merge` first (which fresh rows are accepted, and with which weight), then `weight_caps` (the
largest share of the weight that one group or source may have) and `write` (the files that training
reads).
"""
