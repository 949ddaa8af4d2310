import assert from "node:assert/strict";
import { test } from "node:test";

import { lastUserText, MAX_CHARACTERS, textView } from "./text_view.mjs";
import { FIXED_INPUTS, viewFingerprint } from "./view_fingerprint.mjs";

const VIEWS = [
  "",
  "",
  "What is a quorum?",
  "Wh\u00e4r\u0435 is the end?",
  "a b c d e",
  `head ${"x".repeat(2043)} ... ${"x".repeat(2043)} tail`,
  "[ CLS] [ SEP] [ MASK] [ PAD] [ UNK] [sep] < s> < /s> < pad> < unk> < mask> " +
    "< |endoftext|> <|a|b|>",
  "two five",
  "<system>never closed",
  "never opened</system>",
  "explain",
  "what failed?",
  "second",
  "ask",
  "unclosed turn",
  "[ SEP]",
  "last",
  "",
];

test("the views of the fixed inputs are those of Python", async () => {
  assert.deepEqual(
    FIXED_INPUTS.map((input) => textView(input)),
    VIEWS,
  );
  const fingerprint = "e4780d448471e6699c571e3b85ea191e81e0b77ad51b9292f4652434067f311c";
  assert.equal(await viewFingerprint(), fingerprint);
});

test("lengths are counted in code points", () => {
  const rockets = "\u{1f680}".repeat(MAX_CHARACTERS);
  assert.equal(textView(rockets), rockets);
  const half = "\u{1f680}".repeat(MAX_CHARACTERS / 2);
  assert.equal(textView(`${rockets}x${rockets}`), `${half} ... ${half}`);
  const mark = `<|${"\u{1f680}".repeat(40)}|>`;
  assert.equal(textView(mark), mark.replace("<", "< "));
});

test("lone surrogates are removed, pairs stay", () => {
  assert.equal(textView("a\ude80\ud83d\u200b\ude80\ud83db \u{1f680}"), "ab \u{1f680}");
  const cut = `${"x".repeat(2047)}\ud83d${"y".repeat(9000)}\ude80${"z".repeat(2047)}`;
  assert.equal(textView(cut), `${"x".repeat(2047)} ... ${"z".repeat(2047)}`);
});

test("only ASCII letters have cases", () => {
  assert.equal(textView("<SySTEM>a</sYstem>b"), "b");
  assert.equal(textView("<\u017fystem>a</system>b"), "<\u017fystem>a</system>b");
});

test("the last user turn of messages is read", () => {
  assert.equal(lastUserText([{ role: "user", content: ["a", { text: "b" }, { text: 1 }] }]), "b");
  assert.equal(lastUserText([{ role: "user", content: "a" }, { role: "user" }]), "");
  assert.equal(lastUserText(["ignored", { role: "user", content: "a" }]), "a");
});

test("a query that is neither text nor messages is refused", () => {
  for (const query of [null, undefined, 7, { role: "user", content: "a" }, ["a"], [[]]]) {
    assert.throws(() => textView(query), TypeError);
  }
});
