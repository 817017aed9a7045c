"""Kinds on strings: case, trimming, tests, building, counting."""
from .kind import Kind

_WORDS = ["Hello", "Bye", "Welcome", "Dear", "User", "Item", "Order", "Note", "Error", "Warning", "ID", "Page", "Step", "Mr", "v"]


def _texts(*values):
    return lambda rng, c: [(v,) for v in values]


def _simple(name, does, plain, py, js, rs, ref, returns="str", cases=None, hint=""):
    return Kind(name, "text:str", returns, tuple(does), tuple(plain), ref=ref, cases=cases, hint=hint or name,
                py=py if "\n" in py else f"return {py}", js=js if "\n" in js else f"return {js};", rs=rs)


def _case():
    return [
        _simple("upper", ["returns `$text` in upper case", "converts the string `$text` to upper case", "returns `$text` in uppercase", "upper-cases `$text`"], ["converts a string to upper case", "returns a string in upper case"],
                "$text.upper()", "$text.toUpperCase()", "$text.to_uppercase()", str.upper, hint="to_upper"),
        _simple("lower", ["returns `$text` in lower case", "converts the string `$text` to lower case", "returns `$text` in lowercase", "lower-cases `$text`"], ["converts a string to lower case", "returns a string in lower case"],
                "$text.lower()", "$text.toLowerCase()", "$text.to_lowercase()", str.lower, hint="to_lower"),
        _simple("trim", ["returns `$text` without spaces at both ends", "removes leading and trailing spaces from `$text`", "trims the string `$text`"], ["removes leading and trailing spaces from a string", "trims a string"],
                "$text.strip()", "$text.trim()", "$text.trim().to_string()", str.strip, cases=_texts("  a b ", "x", "", " lead", "tail  ")),
        _simple("trim_lower", ["trims `$text` and converts it to lower case", "returns `$text` in lower case without spaces at both ends"], ["trims a string and converts it to lower case"],
                "$text.strip().lower()", "$text.trim().toLowerCase()", "$text.trim().to_lowercase()", lambda t: t.strip().lower(), cases=_texts("  A b ", "X", "", " Lead"), hint="normalize"),
        _simple("trim_upper", ["trims `$text` and converts it to upper case", "returns `$text` in upper case without spaces at both ends"], ["trims a string and converts it to upper case"],
                "$text.strip().upper()", "$text.trim().toUpperCase()", "$text.trim().to_uppercase()", lambda t: t.strip().upper(), cases=_texts("  A b ", "x", "", " lead"), hint="normalize_code"),
        _simple("reverse", ["returns the string `$text` reversed", "reverses the characters of `$text`"], ["reverses a string", "returns a string with its characters in reverse order"],
                "$text[::-1]", '$text.split("").reverse().join("")', "$text.chars().rev().collect()", lambda t: t[::-1], hint="reverse_text"),
        _simple("capitalize", ["returns `$text` with its first letter in upper case and the rest unchanged", "makes the first letter of `$text` upper case"], ["makes the first letter of a string upper case"],
                "$text[:1].upper() + $text[1:]", "$text.slice(0, 1).toUpperCase() + $text.slice(1)",
                "if $text.is_empty() {\n    return String::new();\n}\n$text[..1].to_uppercase() + &$text[1..]", lambda t: t[:1].upper() + t[1:], cases=_texts("hello", "", "A b", "x")),
        _simple("slugify", ["turns `$text` into a slug: lower case, with spaces replaced by dashes", "converts `$text` to lower case and replaces spaces with dashes", "lower-cases `$text` and turns its spaces into dashes", "lowercases `$text` and replaces spaces with hyphens", "returns `$text` as a slug (lower case, spaces to dashes)"],
                ["turns a title into a slug: lower case, spaces to dashes", "converts a string to a slug in lower case with dashes instead of spaces", "makes a URL slug from a string (lower case, spaces replaced by dashes)", "converts text to lower case and replaces spaces with dashes", "lower-cases its input and replaces spaces by dashes", "lowercases a string and replaces spaces with hyphens", "converts a string to a URL-friendly slug: lowercase, spaces to dashes", "turns a string into a slug", "converts a title to lower case and its spaces to dashes"],
                '$text.lower().replace(" ", "-")', '$text.toLowerCase().replaceAll(" ", "-")', '$text.to_lowercase().replace(" ", "-")', lambda t: t.lower().replace(" ", "-"), cases=_texts("Hello World", "a b c", "Rust", "")),
        _simple("snake", ["converts `$text` to lower case and replaces spaces with underscores", "lower-cases `$text` and turns its spaces into underscores"], ["converts a string to lower case with underscores instead of spaces"],
                '$text.lower().replace(" ", "_")', '$text.toLowerCase().replaceAll(" ", "_")', '$text.to_lowercase().replace(" ", "_")', lambda t: t.lower().replace(" ", "_"), cases=_texts("Hello World", "a b c", "Rust", ""), hint="to_snake"),
    ]


def _tests():
    return [
        _simple("is_empty", ["returns true if the string `$text` is empty", "checks whether `$text` is an empty string"], ["checks whether a string is empty"],
                '$text == ""', '$text === ""', "$text.is_empty()", lambda t: t == "", "bool", _texts("", "a", " ")),
        _simple("is_blank", ["returns true if `$text` is empty or has only spaces", "checks whether `$text` is blank, which means empty or only spaces"], ["checks whether a string is blank (empty or only spaces)"],
                '$text.strip() == ""', '$text.trim() === ""', "$text.trim().is_empty()", lambda t: t.strip() == "", "bool", _texts("", "a", "  ", " b ")),
        _simple("palindrome", ["returns true if `$text` reads the same backwards", "checks whether `$text` is a palindrome"], ["checks whether a string is a palindrome"],
                "$text == $text[::-1]", '$text === $text.split("").reverse().join("")', "$text == $text.chars().rev().collect::<String>()", lambda t: t == t[::-1], "bool", _texts("level", "ab", "", "noon", "Noon"), "is_palindrome"),
        _simple("validate_email", ["returns true if `$text` is a simple email address: one \"@\", something before it and a dot after it", "checks whether `$text` is an email: exactly one \"@\" with a name before it and a dot after it", "validates the email address `$text`"],
                ["checks whether a string is a valid email address", "validates an email address", "validates email addresses", "checks that an email address is valid", "returns true for a valid email address and false otherwise", "returns true if a string is a simple email address: one \"@\", something before it and a dot after it"],
                'parts = $text.split("@")\nreturn len(parts) == 2 and parts[0] != "" and "." in parts[1]', 'const parts = $text.split("@");\nreturn parts.length === 2 && parts[0] !== "" && parts[1].includes(".");',
                "let parts: Vec<&str> = $text.split('@').collect();\nparts.len() == 2 && !parts[0].is_empty() && parts[1].contains('.')",
                lambda t: t.count("@") == 1 and t.split("@")[0] != "" and "." in t.split("@")[1], "bool", _texts("user@example.com", "user", "@example.com", "a@b@c.com", "user@host", ""), "validate_email"),
        Kind("starts_with", "text:str prefix:str", "bool", ("returns true if `$text` starts with `$prefix`", "checks whether `$text` begins with `$prefix`"), ("checks whether a string starts with a prefix",),
             ref=lambda t, p: t.startswith(p), cases=lambda rng, c: [("hello", "he"), ("hello", "lo"), ("", "a"), ("abc", "abc")], hint="starts_with",
             py="return $text.startswith($prefix)", js="return $text.startsWith($prefix);", rs="$text.starts_with($prefix)"),
        Kind("ends_with", "text:str suffix:str", "bool", ("returns true if `$text` ends with `$suffix`", "checks whether `$text` ends in `$suffix`"), ("checks whether a string ends with a suffix",),
             ref=lambda t, p: t.endswith(p), cases=lambda rng, c: [("hello", "lo"), ("hello", "he"), ("", "a"), ("abc", "abc")], hint="ends_with",
             py="return $text.endswith($suffix)", js="return $text.endsWith($suffix);", rs="$text.ends_with($suffix)"),
        Kind("contains", "text:str part:str", "bool", ("returns true if `$text` contains `$part`", "checks whether `$part` occurs in the string `$text`"), ("checks whether a string contains another string",),
             ref=lambda t, p: p in t, cases=lambda rng, c: [("hello", "ell"), ("hello", "xy"), ("", "a"), ("abc", "c")], hint="has_part",
             py="return $part in $text", js="return $text.includes($part);", rs="$text.contains($part)"),
        Kind("has_prefix", "text:str", "bool", ('returns true if `$text` starts with "$k"', 'checks whether `$text` begins with "$k"'), ('checks whether a string starts with "$k"',),
             ref=lambda t, k: t.startswith(k), consts=lambda rng: {"k": ("raw", rng.choice(["#", "//", "tmp", "log", "http", "ID", "x-", "@", "pre", "--", "test", "/"]))}, cases=lambda rng, c: [(c["k"] + "abc",), ("zzz",), ("",), ("z" + c["k"],)], hint="has_prefix",
             py='return $text.startswith("$k")', js='return $text.startsWith("$k");', rs='$text.starts_with("$k")'),
        Kind("has_suffix", "text:str", "bool", ('returns true if `$text` ends with "$k"', 'checks whether `$text` ends in "$k"'), ('checks whether a string ends with "$k"',),
             ref=lambda t, k: t.endswith(k), consts=lambda rng: {"k": ("raw", rng.choice([".py", ".rs", ".js", ".txt", ".md", "!", "?", ".", ".json", "ing", "/", ";"]))}, cases=lambda rng, c: [("abc" + c["k"],), ("zzz",), ("",), (c["k"] + "z",)], hint="has_suffix",
             py='return $text.endswith("$k")', js='return $text.endsWith("$k");', rs='$text.ends_with("$k")'),
        Kind("equal_fold", "a:str b:str", "bool", ("compares the strings `$a` and `$b` without regard to case", "returns true if `$a` and `$b` are equal when case is ignored"), ("compares two strings and ignores case",),
             ref=lambda a, b: a.lower() == b.lower(), cases=lambda rng, c: [("Abc", "aBC"), ("a", "b"), ("", ""), ("x", "X")], hint="same_text",
             py="return $a.lower() == $b.lower()", js="return $a.toLowerCase() === $b.toLowerCase();", rs="$a.to_lowercase() == $b.to_lowercase()"),
    ]


def _building():
    wrapped = lambda rng: {"pre": ("raw", rng.choice(_WORDS) + rng.choice([", ", ": ", " ", " #", "-"])), "post": ("raw", rng.choice(["!", ".", "?", ";", " :)", "!!"]))}
    return [
        Kind("greet", "name:str", "str", ('returns "$pre" followed by `$name` and "$post"', 'puts "$pre" before `$name` and "$post" after it'), ('returns its argument with "$pre" before it and "$post" after it',),
             ref=lambda name, pre, post: pre + name + post, consts=wrapped, cases=_texts("Ann", "", "Bob C"), hint="greet",
             py='return "$pre" + $name + "$post"', js='return "$pre" + $name + "$post";', rs='format!("$pre{}$post", $name)'),
        Kind("prefix", "text:str", "str", ('puts "$pre" before `$text`', 'returns "$pre" followed by `$text`'), ('returns its argument with "$pre" before it',),
             ref=lambda text, pre: pre + text, consts=lambda rng: {"pre": wrapped(rng)["pre"]}, cases=_texts("Ann", "", "Bob C"), hint="add_prefix",
             py='return "$pre" + $text', js='return "$pre" + $text;', rs='format!("$pre{}", $text)'),
        Kind("full_name", "first:str last:str", "str", ("returns `$first` and `$last` joined by a space", "joins `$first` and `$last` with one space between them"), ("joins two strings with a space between them",),
             ref=lambda a, b: a + " " + b, cases=lambda rng, c: [("Ann", "Lee"), ("a", ""), ("x", "y")], hint="full_name",
             py='return $first + " " + $last', js='return $first + " " + $last;', rs='format!("{} {}", $first, $last)'),
        Kind("pair_text", "key:str value:str", "str", ('returns `$key` and `$value` with "$sep" between them', 'joins the strings `$key` and `$value` with "$sep"'), ('joins two strings with "$sep" between them',),
             ref=lambda a, b, sep: a + sep + b, consts=lambda rng: {"sep": ("raw", rng.choice(["=", ": ", "-", "/", "@", ", ", "_", " -> ", "."]))}, cases=lambda rng, c: [("Ann", "Lee"), ("a", ""), ("x", "y")], hint="key_value",
             py='return $key + "$sep" + $value', js='return $key + "$sep" + $value;', rs='format!("{}$sep{}", $key, $value)'),
        Kind("repeat", "text:str count:int", "str", ("returns the string `$text` repeated `$count` times", "repeats `$text` `$count` times"), ("repeats a string a number of times",),
             ref=lambda t, n: t * n, cases=lambda rng, c: [("ab", 3), ("x", 0), ("", 4), ("-", 5)], hint="repeat_text",
             py="return $text * $count", js="return $text.repeat($count);", rs="$text.repeat($count as usize)"),
        Kind("repeat_const", "text:str", "str", ("returns the string `$text` repeated $k times", "repeats `$text` $k times"), ("repeats a string $k times",),
             ref=lambda t, k: t * k, consts=lambda rng: {"k": ("int", rng.randint(2, 9))}, cases=_texts("ab", "", "-"), hint="echo_text",
             py="return $text * $k", js="return $text.repeat($k);", rs="$text.repeat($k)"),
        Kind("replace_char", "text:str", "str", ('replaces every "$old" in `$text` with "$with"', 'returns `$text` with each "$old" replaced by "$with"'), ('replaces every "$old" in a string with "$with"',),
             ref=lambda t, old, **k: t.replace(old, k["with"]), hint="replace_marks",
             consts=lambda rng: dict(zip(("old", "with"), (("raw", c) for c in rng.sample([" ", "-", "_", ".", ",", "/", ":", ";", "+", "a", "x"], 2)))),
             cases=lambda rng, c: [("m" + c["old"] + "n" + c["old"],), ("none",), ("",)],
             py='return $text.replace("$old", "$with")', js='return $text.replaceAll("$old", "$with");', rs='$text.replace("$old", "$with")'),
        Kind("truncate", "text:str", "str", ("returns the first $k characters of `$text`", "cuts `$text` after $k characters"), ("returns the first $k characters of a string",),
             ref=lambda t, k: t[:k], consts=lambda rng: {"k": ("int", rng.randint(2, 40))}, cases=lambda rng, c: [("abcdefghij" * 5,), ("x",), ("",)], hint="shorten",
             py="return $text[:$k]", js="return $text.slice(0, $k);", rs="$text.chars().take($k).collect()"),
        Kind("pad_zero", "number:int", "str", ("returns `$number` as a string padded with zeros to $k digits",), ("returns an integer as a string padded with zeros to $k digits",),
             ref=lambda n, k: str(n).zfill(k), consts=lambda rng: {"k": ("int", rng.randint(2, 8))}, cases=lambda rng, c: [(7,), (12,), (0,)], hint="pad_number",
             py="return str($number).zfill($k)", js='return String($number).padStart($k, "0");', rs='format!("{:0$k}", $number)'),
    ]


def _counting():
    return [
        _simple("word_count", ["returns the number of words in `$text`, separated by spaces", "counts the words in `$text`"], ["counts the words in a string", "returns the number of words in a text"],
                "len($text.split())", '$text.split(" ").filter((item) => item !== "").length', "$text.split_whitespace().count() as i64", lambda t: len(t.split()), "int", _texts("Hello World", "", "one", " a  b c "), "word_count"),
        _simple("text_length", ["returns the number of characters in `$text`", "returns the length of the string `$text`"], ["returns the length of a string"],
                "len($text)", "$text.length", "$text.chars().count() as i64", len, "int", None, "text_length"),
        _simple("vowels", ["counts the vowels (a, e, i, o, u) in `$text`", "returns how many lower-case vowels `$text` contains"], ["counts the vowels a, e, i, o and u in a string"],
                'sum(1 for item in $text if item in "aeiou")', '$text.split("").filter((item) => "aeiou".includes(item)).length', "$text.chars().filter(|item| \"aeiou\".contains(*item)).count() as i64",
                lambda t: sum(c in "aeiou" for c in t), "int", None, "count_vowels"),
        _simple("split_words", ["splits `$text` at spaces and returns the list of words", "returns the list of the words in `$text`"], ["splits a string into words"],
                "$text.split()", '$text.split(" ").filter((item) => item !== "")', "$text.split_whitespace().map(|item| item.to_string()).collect()", str.split, "strs", _texts("Hello World", "", "one", " a  b c "), "split_words"),
        _simple("split_commas", ["splits `$text` at commas and returns the list of parts", "returns the parts of `$text` between commas"], ["splits a string at commas"],
                '$text.split(",")', '$text.split(",")', "$text.split(',').map(|item| item.to_string()).collect()", lambda t: t.split(","), "strs", _texts("a,b,c", "one", "x,", ","), "split_commas"),
        Kind("count_char", "text:str", "int", ('counts how often "$k" occurs in `$text`', 'returns the number of times "$k" occurs in `$text`'), ('counts how often "$k" occurs in a string',),
             ref=lambda t, k: t.count(k), consts=lambda rng: {"k": ("raw", rng.choice(list("aeiotx-,.@_:/#")))}, cases=lambda rng, c: [("m" + c["k"] + "n" + c["k"],), ("",), ("zz",)], hint="count_char",
             py='return $text.count("$k")', js='return $text.split("$k").length - 1;', rs='$text.matches("$k").count() as i64'),
    ]


KINDS = _case() + _tests() + _building() + _counting()
