"""The watch over a certificate: audited answers are tested against what it promises.

Read `promised_risk` (the loss of one audit), `e_process` (the test, whose result may be checked
after every loss), `audits` (the order in which losses count, and the file), then
`certificate_watch`, which joins them; `state` has its settings and findings.
"""
