/** The hash that identifies the text view that an artifact was trained on. */

import { sha256 } from "./artifact.mjs";
import { textView } from "./text_view.mjs";

export const FIXED_INPUTS = [
  "",
  " \t\n",
  "What is a quorum?",
  "Wh\u00e4r\u0435 is\u200b the \u202eend\u0007?\ud800",
  "a\u3000b\u00a0c\u2028d\x85e",
  `head ${"x".repeat(5000)} tail`,
  "[CLS] [SEP] [MASK] [PAD] [UNK] [sep] <s> </s> <pad> <unk> <mask> <|endoftext|> <|a|b|>",
  "<system-reminder>one</system-reminder> two <SYSTEM>three <system>four</system></SYSTEM> five",
  "<system>never closed",
  "never opened</system>",
  '<attached_files path="a.py">code</attached_files>explain',
  `<environment_context>${"y".repeat(5000)}</environment_context>what failed?`,
  "context <user_query>first</user_query> more <user_query>second</user_query>",
  "<|im_start|>system\nrules<|im_end|>\n<|im_start|>user\nask<|im_end|>\n<|im_start|>assistant\n",
  "<|im_start|>user\nunclosed turn",
  "[\u200bSEP] <\u0000system>still text</system>",
  [
    { role: "user", content: "first" },
    { role: "assistant", content: "answer" },
    { role: "user", content: [{ type: "text", text: "last" }, { type: "image" }] },
  ],
  [{ role: "system", content: "nobody asks" }],
];

/** Return the sha256 of the views of the fixed inputs, joined by U+0000, in UTF-8. */
export async function viewFingerprint() {
  const views = FIXED_INPUTS.map((input) => textView(input));
  return sha256(new TextEncoder().encode(views.join("\0")));
}
