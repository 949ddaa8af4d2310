/**
 * The text view, version 1: the function through which both training and serving see a query.
 *
 * A port of querytier's data/text_view.py; docs/PORTING.md gives the steps in words. Lengths are
 * counted in code points. A regular expression has the flag `u` if code points outside the
 * Basic Multilingual Plane or lone surrogates matter to it. It must not have `i` and `u` at once,
 * because only ASCII letters have cases here.
 */

export const VIEW_VERSION = 1;
export const MAX_CHARACTERS = 4096;
export const CUT_MARK = " ... ";

const HARNESS_TAGS =
  "system|system-reminder|system_prompt|system_instruction|system_instructions|instructions|" +
  "environment_context|environment_details|environment_info|additional_context|attached_files|" +
  "open_files|ide_selection|git_status|linter_errors|available_tools|user_info|user_rules|" +
  "tool_result|tool_results|function_results";
const HARNESS = new RegExp(`<(/?)(?:${HARNESS_TAGS})(?: [^<>]*)?>`, "gi");
const REQUEST = /<(\/?)(?:user_query|user_request|user_message)>/gi;
const CHATML = /<\|im_start\|>[ \t]*([a-z]+)[ \t]*\n?|<\|im_end\|>/g;
// With `u`, \ud800-\udfff matches only lone surrogates, not the halves of a pair.
const UNSEEN =
  // eslint-disable-next-line no-control-regex
  /[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\uffff\ud800-\udfff]/gu;
const WHITE_SPACE = /[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/g;
const SPECIAL_TOKEN =
  /\[(?=(?:CLS|SEP|MASK|PAD|UNK)\])|<(?=\|[^|<>]{1,40}\|>)|<(?=\/?(?:s|pad|unk|mask)>)/gu;

/**
 * Return the text of a query that the classifier sees.
 *
 * @param {string | {role: string, content: unknown}[]} query Text, or chat messages whose last user
 *   turn is the query.
 * @returns {string} Empty if nothing is left to decide on.
 * @throws {TypeError} If the query is neither text nor messages.
 */
export function textView(query) {
  const text = typeof query === "string" ? query : lastUserText(query);
  const seen = keepHeadAndTail(text).replace(UNSEEN, "");
  const asked = withoutBlocks(requestOnly(lastChatmlTurn(seen)));
  return asked.replace(SPECIAL_TOKEN, "$& ").replace(WHITE_SPACE, " ").replace(/^ | $/g, "");
}

/**
 * Return the text of the last user turn; empty if there is none.
 *
 * @param {{role: string, content: unknown}[]} messages The content is text, or a list of parts;
 *   parts without a `text` are ignored.
 * @returns {string}
 */
export function lastUserText(messages) {
  if (!Array.isArray(messages)) {
    throw new TypeError(`a query is text or a list of messages, not ${kindOf(messages)}`);
  }
  for (const message of messages.toReversed()) {
    if (!isRecord(message)) {
      throw new TypeError(`a message is an object, not ${kindOf(message)}`);
    }
    if (message.role === "user") {
      return contentText(message.content);
    }
  }
  return "";
}

function contentText(content) {
  if (typeof content === "string") {
    return content;
  }
  if (!Array.isArray(content)) {
    return "";
  }
  const texts = content.filter(isRecord).map((part) => part.text);
  return texts.filter((text) => typeof text === "string").join("\n");
}

function keepHeadAndTail(text) {
  const half = MAX_CHARACTERS / 2;
  const endOfHead = afterCharacters(text, half);
  const startOfTail = beforeCharacters(text, half);
  return endOfHead >= startOfTail
    ? text
    : text.slice(0, endOfHead) + CUT_MARK + text.slice(startOfTail);
}

/** Return the index after the first `count` code points, without looking at the rest. */
function afterCharacters(text, count) {
  let index = 0;
  for (let seen = 0; seen < count && index < text.length; seen += 1) {
    index += text.codePointAt(index) > 0xffff ? 2 : 1;
  }
  return index;
}

/** Return the index before the last `count` code points, without looking at the rest. */
function beforeCharacters(text, count) {
  let index = text.length;
  for (let seen = 0; seen < count && index > 0; seen += 1) {
    index -= index > 1 && text.codePointAt(index - 2) > 0xffff ? 2 : 1;
  }
  return index;
}

/** Return the last user turn of ChatML markup; the text itself if there is none. */
function lastChatmlTurn(text) {
  let turn = text;
  let start = null;
  for (const mark of text.matchAll(CHATML)) {
    if (start !== null) {
      turn = text.slice(start, mark.index);
    }
    start = mark[1] === "user" ? mark.index + mark[0].length : null;
  }
  return start === null ? turn : text.slice(start);
}

/** Return the content of the last `<user_query>` block; the text itself without one. */
function requestOnly(text) {
  let request = text;
  let start = null;
  for (const mark of text.matchAll(REQUEST)) {
    if (!mark[1]) {
      start = mark.index + mark[0].length;
    } else if (start !== null) {
      request = text.slice(start, mark.index);
      start = null;
    }
  }
  return request;
}

/** Remove the outermost blocks between harness tags; a tag without its other half stays. */
function withoutBlocks(text) {
  const kept = [];
  const opened = [];
  let endOfLast = 0;
  for (const mark of text.matchAll(HARNESS)) {
    if (!mark[1]) {
      opened.push(mark.index);
    } else if (opened.length > 0) {
      const start = opened.pop();
      if (opened.length === 0) {
        kept.push(text.slice(endOfLast, start));
        endOfLast = mark.index + mark[0].length;
      }
    }
  }
  return [...kept, text.slice(endOfLast)].join(" ");
}

function isRecord(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value) {
  return value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
}
