"""Kinds on lists: totals, counts, filters, maps, single items."""
from .kind import Kind


def _clean(values):
    return list(dict.fromkeys(values))


_LIMIT = lambda rng: {"k": ("int", rng.choice([0, 5, 10, 18, 50, 100, rng.randint(1, 60)]))}
_FACTOR = lambda rng: {"k": ("int", rng.choice([2, 3, 5, 10, rng.randint(2, 40)]))}


def _around(rng, c):
    k = c["k"]
    return [([],), ([k - 1, k, k + 1],), ([k + 5, k - 7, k + 2],), ([k],)]


def _totals():
    made = []
    for kind, noun in (("nums", "numbers"), ("ints", "integers")):
        element = kind[:-1]
        zero = "0.0" if kind == "nums" else "0"
        made += [
            Kind(f"sum_{kind}", f"values:{kind}", element, (f"returns the sum of the {noun} in `$values`", f"adds up all {noun} in the list `$values`"), (f"returns the sum of a list of {noun}", f"adds up a list of {noun}"),
                 ref=sum, hint="sum_all", py="return sum($values)", js="return $values.reduce((result, item) => result + item, 0);", rs="$values.iter().sum()"),
            Kind(f"product_{kind}", f"values:{kind}", element, (f"returns the product of the {noun} in `$values`", f"multiplies all {noun} in the list `$values`"), (f"returns the product of a list of {noun}",),
                 ref=lambda values: _product(values), hint="product_all", cases=lambda rng, c: [([],), ([2, 3, 4],), ([5],), ([1, -2, 6],)],
                 py="result = 1\nfor item in $values:\n    result *= item\nreturn result", js="return $values.reduce((result, item) => result * item, 1);", rs="$values.iter().product()"),
            Kind(f"average_{kind}", f"values:{kind}", "num", (f"returns the average of the {noun} in `$values`, or 0 if the list is empty", f"computes the mean of the list `$values` of {noun}; for an empty list it returns 0"), (f"returns the average of a list of {noun}, or 0 for an empty list", f"computes the mean of a list of {noun} and returns 0 if it is empty"),
                 ref=lambda values: sum(values) / len(values) if values else 0, hint="average",
                 py="if not $values:\n    return 0\nreturn sum($values) / len($values)", js="if ($values.length === 0) {\n  return 0;\n}\nreturn $values.reduce((result, item) => result + item, 0) / $values.length;",
                 rs="if $values.is_empty() {\n    return 0.0;\n}\n" + ("$values.iter().sum::<f64>() / $values.len() as f64" if kind == "nums" else "$values.iter().sum::<i64>() as f64 / $values.len() as f64")),
            Kind(f"maximum_{kind}", f"values:{kind}", element, (f"returns the largest of the {noun} in `$values`, or 0 if the list is empty", f"finds the maximum of the list `$values` of {noun}; for an empty list it returns 0"), (f"returns the largest of a list of {noun}, or 0 for an empty list",),
                 ref=lambda values: max(values, default=0), hint="largest",
                 py="return max($values, default=0)", js="return $values.length === 0 ? 0 : Math.max(...$values);",
                 rs="$values.iter().copied().max().unwrap_or(0)" if kind == "ints" else "if $values.is_empty() {\n    return 0.0;\n}\n$values.iter().copied().fold(f64::MIN, f64::max)"),
            Kind(f"minimum_{kind}", f"values:{kind}", element, (f"returns the smallest of the {noun} in `$values`, or 0 if the list is empty", f"finds the minimum of the list `$values` of {noun}; for an empty list it returns 0"), (f"returns the smallest of a list of {noun}, or 0 for an empty list",),
                 ref=lambda values: min(values, default=0), hint="smallest",
                 py="return min($values, default=0)", js="return $values.length === 0 ? 0 : Math.min(...$values);",
                 rs="$values.iter().copied().min().unwrap_or(0)" if kind == "ints" else "if $values.is_empty() {\n    return 0.0;\n}\n$values.iter().copied().fold(f64::MAX, f64::min)"),
            Kind(f"sum_squares_{kind}", f"values:{kind}", element, (f"returns the sum of the squares of the {noun} in `$values`",), (f"returns the sum of the squares of a list of {noun}",),
                 ref=lambda values: sum(v * v for v in values), hint="sum_squares",
                 py="return sum(item * item for item in $values)", js="return $values.reduce((result, item) => result + item * item, 0);", rs="$values.iter().map(|item| item * item).sum()"),
        ]
    return made


def _product(values):
    result = 1
    for value in values:
        result *= value
    return result


def _condition(name, does, plain, py, js, rs, ref, consts, cases, hint):
    """A count and a filter for one condition on an item."""
    return [
        Kind(f"count_{name}", "values:ints", "int", tuple(f"{verb} {text}" for text in does for verb in ("counts the integers in `$values` that", "returns how many integers in `$values`")),
             tuple(f"counts the integers in a list that {text}" for text in plain), consts=consts, cases=cases, hint=f"count_{hint}",
             ref=lambda values, **k: sum(ref(v, **k) for v in values),
             py=f"return sum(1 for item in $values if {py})", js=f"return $values.filter((item) => {js}).length;", rs=f"$values.iter().filter(|item| {rs.replace('*item', '**item')}).count() as i64"),
        Kind(f"filter_{name}", "values:ints", "ints", tuple(f"{verb} {text}" for text in does for verb in ("returns a list of the integers in `$values` that", "keeps only those integers of `$values` that")),
             tuple(f"returns only the integers of a list that {text}" for text in plain), consts=consts, cases=cases, hint=f"filter_{hint}",
             ref=lambda values, **k: [v for v in values if ref(v, **k)],
             py=f"return [item for item in $values if {py}]", js=f"return $values.filter((item) => {js});", rs=f"$values.iter().copied().filter(|item| {rs}).collect()"),
    ]


def _conditions():
    return [
        *_condition("even", ["are even"], ["are even"], "item % 2 == 0", "item % 2 === 0", "*item % 2 == 0", lambda v: v % 2 == 0, None, None, "even"),
        *_condition("odd", ["are odd"], ["are odd"], "item % 2 != 0", "item % 2 !== 0", "*item % 2 != 0", lambda v: v % 2 != 0, None, None, "odd"),
        *_condition("greater", ["are greater than $k", "are above $k"], ["are greater than $k"], "item > $k", "item > $k", "*item > $k", lambda v, k: v > k, _LIMIT, _around, "above"),
        *_condition("less", ["are less than $k", "are below $k"], ["are less than $k"], "item < $k", "item < $k", "*item < $k", lambda v, k: v < k, _LIMIT, _around, "below"),
        *_condition("at_least", ["are at least $k"], ["are at least $k"], "item >= $k", "item >= $k", "*item >= $k", lambda v, k: v >= k, _LIMIT, _around, "at_least"),
        *_condition("multiple", ["are divisible by $k"], ["are divisible by $k"], "item % $k == 0", "item % $k === 0", "*item % $k == 0", lambda v, k: v % k == 0, _FACTOR,
                    lambda rng, c: [([],), ([c["k"], c["k"] + 1, c["k"] * 2],), ([1, 2, 3, 4, 6, 12],)], "multiples"),
    ]


def _by_parameter():
    """Kinds whose limit or item is a second parameter."""
    lists = lambda rng, c: [([], 3), ([3, 4, 3, 5], 3), ([1, 2], 3), ([9, 3], 4)]
    words = lambda rng, c: [([], "a"), (["fig", "cat", "fig"], "fig"), (["one"], "two"), (["cat", "dog"], "dog")]
    return [
        Kind("filter_over", "values:ints limit:int", "ints", ("returns the integers of `$values` that are greater than `$limit`", "keeps only the integers of `$values` above `$limit`"), ("returns the integers of a list that are greater than a limit",),
             ref=lambda values, limit: [v for v in values if v > limit], cases=lists, hint="filter_above",
             py="return [item for item in $values if item > $limit]", js="return $values.filter((item) => item > $limit);", rs="$values.iter().copied().filter(|item| *item > $limit).collect()"),
        Kind("count_over", "values:ints limit:int", "int", ("counts the integers of `$values` that are greater than `$limit`", "returns how many integers of `$values` are above `$limit`"), ("counts the integers of a list that are greater than a limit",),
             ref=lambda values, limit: sum(v > limit for v in values), cases=lists, hint="count_above",
             py="return sum(1 for item in $values if item > $limit)", js="return $values.filter((item) => item > $limit).length;", rs="$values.iter().filter(|item| **item > $limit).count() as i64"),
        Kind("count_item", "words:strs word:str", "int", ("returns how often `$word` occurs in the list of strings `$words`", "counts how many strings in `$words` equal `$word`"), ("counts how often a string occurs in a list of strings",),
             ref=lambda words, word: words.count(word), cases=words, hint="count_matches",
             py="return $words.count($word)", js="return $words.filter((item) => item === $word).length;", rs="$words.iter().filter(|item| **item == $word).count() as i64"),
        Kind("index_of", "words:strs word:str", "int", ("returns the position of `$word` in the list of strings `$words`, or -1 if it is missing", "finds the index of `$word` in the strings `$words`; if it is missing it returns -1"), ("returns the index of a string in a list of strings, or -1 if it is missing",),
             ref=lambda words, word: words.index(word) if word in words else -1, cases=words, hint="index_of",
             py="return $words.index($word) if $word in $words else -1", js="return $words.indexOf($word);", rs="$words.iter().position(|item| *item == $word).map_or(-1, |i| i as i64)"),
        Kind("contains_item", "words:strs word:str", "bool", ("returns true if the list of strings `$words` contains `$word`", "checks whether `$word` is one of the strings in `$words`"), ("checks whether a list of strings contains a string",),
             ref=lambda words, word: word in words, cases=words, hint="has_word",
             py="return $word in $words", js="return $words.includes($word);", rs="$words.contains(&$word)"),
        Kind("first_or", "values:ints fallback:int", "int", ("returns the first of the integers in `$values`, or `$fallback` if the list is empty", "returns the first integer of `$values`; for an empty list it returns `$fallback`"), ("returns the first integer of a list, or a fallback if it is empty",),
             ref=lambda values, fallback: values[0] if values else fallback, cases=lists, hint="first_or",
             py="return $values[0] if $values else $fallback", js="return $values.length > 0 ? $values[0] : $fallback;", rs="$values.first().copied().unwrap_or($fallback)"),
        Kind("last_or", "values:ints fallback:int", "int", ("returns the last of the integers in `$values`, or `$fallback` if the list is empty", "returns the last integer of `$values`; for an empty list it returns `$fallback`"), ("returns the last integer of a list, or a fallback if it is empty",),
             ref=lambda values, fallback: values[-1] if values else fallback, cases=lists, hint="last_or",
             py="return $values[-1] if $values else $fallback", js="return $values.length > 0 ? $values[$values.length - 1] : $fallback;", rs="$values.last().copied().unwrap_or($fallback)"),
        Kind("scale_all", "values:ints factor:int", "ints", ("multiplies each integer in `$values` by `$factor` and returns the new list",), ("multiplies each integer of a list by a factor and returns the new list",),
             ref=lambda values, factor: [v * factor for v in values], cases=lists, hint="scale_all",
             py="return [item * $factor for item in $values]", js="return $values.map((item) => item * $factor);", rs="$values.iter().map(|item| item * $factor).collect()"),
    ]


def _maps():
    return [
        Kind("map_times", "values:ints", "ints", ("returns a list with each integer of `$values` multiplied by $k", "multiplies every integer in `$values` by $k"), ("multiplies every integer of a list by $k and returns the new list",), consts=_FACTOR,
             ref=lambda values, k: [v * k for v in values], hint="times_all",
             py="return [item * $k for item in $values]", js="return $values.map((item) => item * $k);", rs="$values.iter().map(|item| item * $k).collect()"),
        Kind("map_plus", "values:ints", "ints", ("returns a list with $k added to each integer of `$values`", "adds $k to every integer in `$values`"), ("adds $k to every integer of a list and returns the new list",), consts=_FACTOR,
             ref=lambda values, k: [v + k for v in values], hint="plus_all",
             py="return [item + $k for item in $values]", js="return $values.map((item) => item + $k);", rs="$values.iter().map(|item| item + $k).collect()"),
        Kind("map_square", "values:ints", "ints", ("returns a list of the squares of the integers in `$values`", "squares every integer in `$values`"), ("returns the squares of a list of integers",),
             ref=lambda values: [v * v for v in values], hint="squares",
             py="return [item * item for item in $values]", js="return $values.map((item) => item * item);", rs="$values.iter().map(|item| item * item).collect()"),
        Kind("reverse_list", "values:ints", "ints", ("returns the integers of `$values` in reverse order", "returns a reversed copy of the list of integers `$values`"), ("returns a list of integers in reverse order",),
             ref=lambda values: values[::-1], hint="reversed_list", py="return $values[::-1]", js="return [...$values].reverse();", rs="$values.iter().rev().copied().collect()"),
        Kind("sort_list", "values:ints", "ints", ("returns the integers of `$values` in ascending order", "returns a sorted copy of the list of integers `$values`"), ("sorts a list of integers in ascending order and returns a new list",),
             ref=sorted, hint="sort_values", py="return sorted($values)", js="return [...$values].sort((i, j) => i - j);", rs="let mut result = $values.to_vec();\nresult.sort();\nresult"),
        Kind("unique", "values:ints", "ints", ("returns the integers of `$values` without duplicates, in their first order", "removes duplicates from the list of integers `$values` and keeps the order"), ("removes duplicates from a list of integers and keeps the order",),
             ref=_clean, hint="unique", py="return list(dict.fromkeys($values))", js="return [...new Set($values)];",
             rs="let mut result = Vec::new();\nfor item in $values {\n    if !result.contains(item) {\n        result.push(*item);\n    }\n}\nresult"),
        Kind("upper_all", "words:strs", "strs", ("returns the strings of `$words` in upper case", "converts every string in `$words` to upper case"), ("converts a list of strings to upper case",),
             ref=lambda words: [w.upper() for w in words], hint="upper_all",
             py="return [item.upper() for item in $words]", js="return $words.map((item) => item.toUpperCase());", rs="$words.iter().map(|item| item.to_uppercase()).collect()"),
        Kind("lower_all", "words:strs", "strs", ("returns the strings of `$words` in lower case", "converts every string in `$words` to lower case"), ("converts a list of strings to lower case",),
             ref=lambda words: [w.lower() for w in words], hint="lower_all",
             py="return [item.lower() for item in $words]", js="return $words.map((item) => item.toLowerCase());", rs="$words.iter().map(|item| item.to_lowercase()).collect()"),
        Kind("lengths", "words:strs", "ints", ("returns a list of the lengths of the strings in `$words`",), ("returns the lengths of a list of strings",),
             ref=lambda words: [len(w) for w in words], hint="lengths",
             py="return [len(item) for item in $words]", js="return $words.map((item) => item.length);", rs="$words.iter().map(|item| item.len() as i64).collect()"),
        Kind("join", "words:strs", "str", ("joins the strings of `$words` with \"$sep\"", "returns the strings in `$words` joined by \"$sep\""), ("joins a list of strings with \"$sep\"",),
             ref=lambda words, sep: sep.join(words), hint="join_words", consts=lambda rng: {"sep": ("raw", rng.choice(["-", ", ", "_", "/", ".", " ", "|", ":", "; ", " and ", "+", " - "]))},
             py='return "$sep".join($words)', js='return $words.join("$sep");', rs='$words.join("$sep")'),
        Kind("join_by", "words:strs separator:str", "str", ("joins the strings of `$words` with `$separator`", "returns the strings in `$words` joined by the separator `$separator`"), ("joins a list of strings with a separator",),
             ref=lambda words, separator: separator.join(words), hint="join_with", cases=lambda rng, c: [([], "-"), (["a", "b", "c"], "-"), (["one"], ", "), (["x", "y"], ", ")],
             py="return $separator.join($words)", js="return $words.join($separator);", rs="$words.join($separator)"),
        Kind("longest", "words:strs", "int", ("returns the length of the longest string in `$words`, or 0 if the list is empty",), ("returns the length of the longest string of a list, or 0 if it is empty",),
             ref=lambda words: max((len(w) for w in words), default=0), hint="longest_length",
             py="return max((len(item) for item in $words), default=0)", js="return Math.max(0, ...$words.map((item) => item.length));", rs="$words.iter().map(|item| item.len() as i64).max().unwrap_or(0)"),
        Kind("list_size", "values:ints", "int", ("returns the number of integers in `$values`", "returns how many items the list of integers `$values` has"), ("returns the number of items in a list of integers",),
             ref=len, hint="size_of", py="return len($values)", js="return $values.length;", rs="$values.len() as i64"),
    ]


KINDS = _totals() + _conditions() + _by_parameter() + _maps()
