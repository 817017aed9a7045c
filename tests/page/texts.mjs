// Conversations and answers for run.mjs.

const MARKDOWN = `# Sorting in Rust

It is **stable** by default, *not* in place, and ~~slow~~ fast. Use \`sort_unstable\`, or see https://doc.rust-lang.org/std/ and
[the book](https://doc.rust-lang.org/book/). But [this](javascript:alert(1)) is text, and so is <img src=x onerror=alert(1)>.

1. First one
2. Second with \`code\`
   - a nested item
   - another **bold** one
3. Third

> A quote with *emphasis*
> over two lines

\`\`\`rust
/// Adds two numbers.
pub fn add<'a>(a: u32, b: &'a u32) -> u32 {
    let text = "a \\"string\\"; // no comment";
    a + *b // sum
}
\`\`\`

| name | size | speed |
|:-----|-----:|:----:|
| small | 12 | fast |
| large | 4,096 | \`slow\` |

- [x] done
- [ ] to do
`;

/** A conversation with everything in it. */
export const RICH = {
  id: "00000000000000aa",
  at: 1,
  turns: [
    { role: "user", content: "How do I sort,\nand what is **fast**?" },
    {
      role: "assistant", model: "coder-tiny", state: "complete", thought: "Sorting is asked for.\n\nA short answer will do.", thought_s: 3.2,
      content: MARKDOWN, figures: "412 tokens · 38.2 tok/s · first after 1.2 s · prompt 1,204, 1,180 of it cached",
    },
    { role: "user", content: "And then?" },
    { role: "assistant", model: "coder-tiny", state: "stopped", content: "It depends on the", note: "Stopped." },
  ],
};

const delta = (delta, finish_reason = null) => ({ model: "coder-tiny", choices: [{ index: 0, delta, finish_reason }] });
const stream = (...events) => events.map((event) => `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`).join("");

/** Streams, and what must be seen of each. */
export const PLAYED = [
  [
    stream(delta({ role: "assistant", content: "" }), delta({ reasoning_content: "a <b>" }), delta({ reasoning_content: " c" }), delta({ content: "yes" }), delta({}, "stop"), "[DONE]"),
    (assert, seen) => assert.deepEqual(seen, { thought: "a <b> c", open: false, answer: "yes", note: "" }),
  ],
  [
    stream(delta({ content: "half" }), { error: { message: "the device failed" } }),
    (assert, seen) => assert.deepEqual([seen.answer, seen.note], ["half", "The device failed."]),
  ],
  [
    stream(delta({ content: "half" })),
    (assert, seen) => assert.deepEqual([seen.answer, seen.note], ["half", "The connection was cut before the answer was complete."]),
  ],
];

const many = (text, size = 100_000) => text.repeat(Math.ceil(size / text.length));

/** What a model may write to harm or to delay. */
export const HOSTILE = [
  "<script>alert(1)</script><img src=x onerror=alert(1)><svg onload=alert(1)><iframe src=//evil.example></iframe><style>*{display:none}</style>",
  "[a](javascript:alert(1)) [b](JaVaScRiPt:alert(1)) [c](data:text/html,<script>alert(1)</script>) [d](vbscript:x) [e](file:///etc/passwd) [f](//evil.example) [g](\u0001javascript:alert(1))",
  "![tracks](http://evil.example/pixel.png) <http://evil.example/> http://evil.example/\" onmouseover=\"alert(1) [x](http://evil.example/\"onclick=\"alert(1))",
  "```\"><script>alert(1)</script>\nx\n```\n```js onload=alert(1)\n</code></pre><script>alert(1)</script>\n```",
  "| a<script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | [x](javascript:1) |",
  "# <b>x</b>\n- [x] <input autofocus onfocus=alert(1)>\n> <a href=javascript:1>y</a>",
  ...["*", "**a ", "*a **b ", "_a", "__", "~~a ", "`a``b```", "[", "[a](", "[a](http://a/ ", "](", "![[", "<http://a", "https://a/", "xhttp://a", "\\", "*a_b~~c`d[e"].map((part) => many(part)),
  ...["> ", "- ", "1. ", ">- ", "  - a\n", "> a\n", "- - - a\n", "|", "|-", "a|b\n-|-\n", "```\n", "~~~\n```\n", "#", "# #", "---\n", "\n", " \n", "\t", "- a\n\n  - b\n\n"].map((part) => many(part)),
  many("a".repeat(99) + "\n"),
  `# ${"#".repeat(100_000)}x`,
  `${"`".repeat(50_000)}a${"`".repeat(49_999)}`,
  `http://a/${".".repeat(100_000)}x`,
  `\`\`\`python\n${many('"""', 50_000)}\n\`\`\``,
  `\`\`\`rust\n${many("'a ", 50_000)}\n\`\`\``,
  `\`\`\`js\n${many("/* \" ` ' ", 50_000)}\n\`\`\``,
];
