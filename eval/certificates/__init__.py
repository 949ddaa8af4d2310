"""Certificates: a threshold with a promise about the risk of queries sent to the cheap tier.

Read `losses` (the loss of a query on the cheap tier), `risk_bounds` (p-values and bounds of a mean
loss), `threshold_tests` (the tests and their order), `certify` (the proof) and `slices` (promises
about parts of the traffic); then `wording` (the certificate in words) and `sample_size` (the number
of labels that a certificate needs).
"""
