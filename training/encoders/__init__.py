"""Encoders that are made from the log: a static one, distilled, and a fine-tuned one.

`static` distils word vectors from a sentence encoder, with the projection and refinement in
`word_vectors`. `fine_tuning` trains a sentence encoder on the labels, with the losses in `trainer`;
`out_of_fold` repeats that for each fold, so that later learners never read an encoder's outputs for
rows that it was trained on.
"""
