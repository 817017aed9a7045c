"""Kinds on numbers: arithmetic, limits, conversions, integer functions."""
import math

from .kind import Kind, pick


def _same(expression):
    """One expression in three languages."""
    return {"py": f"return {expression}", "js": f"return {expression};", "rs": expression}


def _binary(name, params, does, plain, expression, ref, hint, kind):
    """An arithmetic kind; `kind` is num or int and the wording says which."""
    typed = " ".join(f"{p}:{kind}" for p in params.split())
    return Kind(f"{name}_{kind}", typed, kind, tuple(does), tuple(plain), ref=ref, hint=hint, **_same(expression))


def _arithmetic():
    made = []
    for kind, noun in (("num", "numbers"), ("int", "integers")):
        made += [
            _binary("sum", "a b", [f"returns the sum of the {noun} `$a` and `$b`", f"adds the {noun} `$a` and `$b`"],
                    [f"returns the sum of two {noun}", f"adds two {noun}"], "$a + $b", lambda a, b: a + b, "add", kind),
            _binary("difference", "a b", [f"subtracts `$b` from `$a` (both {noun})", f"returns `$a` minus `$b`, both {noun}"],
                    [f"returns the difference of two {noun}", f"subtracts the second of two {noun} from the first"], "$a - $b", lambda a, b: a - b, "subtract", kind),
            _binary("product", "a b", [f"multiplies the {noun} `$a` and `$b`", f"returns the product of the {noun} `$a` and `$b`"],
                    [f"returns the product of two {noun}", f"multiplies two {noun}"], "$a * $b", lambda a, b: a * b, "multiply", kind),
            _binary("sum3", "a b c", [f"returns the sum of the {noun} `$a`, `$b` and `$c`", f"adds the {noun} `$a`, `$b` and `$c`"],
                    [f"adds three {noun}", f"returns the sum of three {noun}"], "$a + $b + $c", lambda a, b, c: a + b + c, "add_three", kind),
            _binary("muladd", "a b c", [f"multiplies `$a` by `$b` and adds `$c` (all {noun})", f"returns `$a` times `$b`, plus `$c`, all {noun}"],
                    [], "$a * $b + $c", lambda a, b, c: a * b + c, "scale_shift", kind),
            _binary("mulsub", "a b c", [f"multiplies `$a` by `$b` and subtracts `$c` (all {noun})", f"returns `$a` times `$b`, minus `$c`, all {noun}"],
                    [], "$a * $b - $c", lambda a, b, c: a * b - c, "net_total", kind),
            _binary("summul", "a b c", [f"adds `$a` and `$b` and multiplies the sum by `$c` (all {noun})", f"returns the sum of `$a` and `$b`, times `$c`, all {noun}"],
                    [], "($a + $b) * $c", lambda a, b, c: (a + b) * c, "sum_times", kind),
            _binary("diffmul", "a b c", [f"subtracts `$b` from `$a` and multiplies the difference by `$c` (all {noun})", f"returns the difference `$a` minus `$b`, times `$c`, all {noun}"],
                    [], "($a - $b) * $c", lambda a, b, c: (a - b) * c, "gap_times", kind),
            _binary("square", "n", [f"returns the square of `$n`, {noun[:-1] if kind == 'num' else 'an integer'}".replace(", number", ", a number"), f"multiplies `$n` by itself ({noun})"],
                    [f"returns the square of {'a number' if kind == 'num' else 'an integer'}"], "$n * $n", lambda n: n * n, "square", kind),
        ]
    return made


_SCALE = lambda rng: {"k": ("num", rng.choice([2, 3, 4, 5, 7, 8, 10, 12, 15, 25, 60, 100, 0.5, 1.5, 2.5, 0.25, 1000, rng.randint(2, 99)]))}
_STEP = lambda rng: {"k": ("int", rng.choice([1, 2, 3, 5, 7, 10, 42, 100, rng.randint(2, 999)]))}


def _with_constants():
    return [
        Kind("scale", "value:num", "num", ("returns `$value` multiplied by $k", "multiplies the number `$value` by $k", "returns $k times `$value`"),
             ("multiplies a number by $k", "returns $k times its argument"), ref=lambda value, k: value * k, consts=_SCALE, hint="scale", **_same("$value * $k")),
        Kind("divide_by", "value:num", "num", ("divides the number `$value` by $k", "returns `$value` divided by $k"),
             ("divides a number by $k",), ref=lambda value, k: value / k,
             consts=lambda rng: {"k": ("num", rng.choice([2, 4, 5, 8, 10, 12, 60, 100, 1000, rng.randint(2, 99)]))}, hint="share", **_same("$value / $k")),
        Kind("shift", "n:int", "int", ("adds $k to the integer `$n`", "returns `$n` plus $k, an integer", "increases the integer `$n` by $k"),
             ("adds $k to an integer",), ref=lambda n, k: n + k, consts=_STEP, hint="increase", **_same("$n + $k")),
        Kind("shift_down", "n:int", "int", ("subtracts $k from the integer `$n`", "decreases the integer `$n` by $k"),
             ("subtracts $k from an integer",), ref=lambda n, k: n - k, consts=_STEP, hint="decrease", **_same("$n - $k")),
        Kind("double", "value:num", "num", ("doubles the number `$value`", "returns twice `$value`", "returns `$value` times two"),
             ("doubles a number", "returns twice its argument", "doubles its argument"), ref=lambda value: value * 2, hint="double",
             py="return $value * 2", js="return $value * 2;", rs="$value * 2.0"),
        Kind("double_int", "n:int", "int", ("doubles the integer `$n`", "returns twice the integer `$n`"),
             ("doubles an integer", "returns twice an integer"), ref=lambda n: n * 2, hint="double", **_same("$n * 2")),
        Kind("halve", "value:num", "num", ("halves the number `$value`", "returns half of `$value`"),
             ("halves a number", "returns half of a number"), ref=lambda value: value / 2, hint="halve",
             py="return $value / 2", js="return $value / 2;", rs="$value / 2.0"),
        Kind("linear", "value:num", "num", ("multiplies the number `$value` by $k and then adds $c", "converts `$value` with the factor $k and the offset $c", "returns `$value` times $k plus $c"),
             ("multiplies a number by $k and then adds $c",), ref=lambda value, k, c: value * k + c,
             consts=lambda rng: {**_SCALE(rng), "c": ("num", rng.choice([1, 5, 10, 20, 32, 50, 100, 0.5, rng.randint(1, 400)]))}, hint="convert", **_same("$value * $k + $c")),
        Kind("clamp_const", "value:num", "num", ("limits the number `$value` to the range from $low to $high", "clamps `$value` between $low and $high"),
             ("limits a number to the range from $low to $high", "clamps a number between $low and $high"),
             py="return max($low, min($value, $high))", js="return Math.max($low, Math.min($value, $high));", rs="$value.max($low).min($high)",
             ref=lambda value, low, high: max(low, min(value, high)), hint="clamp_range",
             consts=lambda rng: {"low": ("num", rng.choice([0, 1, 5, -10, -1])), "high": ("num", rng.choice([10, 20, 50, 100, 255, rng.randint(11, 300)]))},
             cases=lambda rng, c: [(c["low"] - 3,), (c["high"] + 5,), (c["low"] + 1,), (c["high"],), (c["low"],)]),
        Kind("grade", "score:num", "str", ('returns "$yes" if `$score` is at least $k and "$no" otherwise', 'returns "$yes" when `$score` is $k or more, else "$no"'),
             ('returns "$yes" for a number of at least $k and "$no" otherwise',), ref=lambda score, k, yes, no: yes if score >= k else no,
             py='return "$yes" if $score >= $k else "$no"', js='return $score >= $k ? "$yes" : "$no";',
             rs='if $score >= $k {\n    "$yes".to_string()\n} else {\n    "$no".to_string()\n}', hint="grade",
             consts=lambda rng: {"k": ("num", rng.choice([10, 18, 50, 60, 65, 100, rng.randint(1, 99)])),
                                 **dict(zip(("yes", "no"), (("raw", w) for w in rng.choice([("pass", "fail"), ("adult", "minor"), ("high", "low"), ("hot", "cold"), ("rich", "poor"), ("on", "off"), ("open", "closed"), ("big", "small")]))))},
             cases=lambda rng, c: [(c["k"],), (c["k"] + 1,), (c["k"] - 1,), (0,)]),
        Kind("divisible", "n:int", "bool", ("returns true if the integer `$n` is divisible by $k", "checks whether `$n` is a multiple of $k"),
             ("checks whether an integer is divisible by $k", "returns true if an integer is a multiple of $k"), ref=lambda n, k: n % k == 0,
             consts=lambda rng: {"k": ("int", rng.randint(2, 12))}, cases=lambda rng, c: [(c["k"],), (c["k"] + 1,), (c["k"] * 3,), (1,), (0,)],
             hint="is_divisible", py="return $n % $k == 0", js="return $n % $k === 0;", rs="$n % $k == 0"),
    ]


def _money():
    amounts = lambda rng, c: [(100, 20), (50, 10), (80, 25), (10, 0), (rng.randint(1, 99), rng.randint(1, 50))]
    return [
        Kind("add_tax", "price:num rate:num", "num", ("adds `$rate` percent to `$price` and returns the total", "returns `$price` increased by `$rate` percent", "returns `$price` plus a tax of `$rate` percent"),
             ("adds a tax given in percent to a price", "returns a price increased by a rate in percent"), ref=lambda price, rate: price + price * rate / 100, cases=amounts, hint="add_tax",
             py="return $price + $price * $rate / 100", js="return $price + $price * $rate / 100;", rs="$price + $price * $rate / 100.0"),
        Kind("discount", "price:num percent:num", "num", ("reduces `$price` by `$percent` percent", "takes `$percent` percent off `$price`", "returns `$price` after a discount of `$percent` percent"),
             ("returns a price after a discount given in percent", "takes a percentage off a price"), ref=lambda price, percent: price - price * percent / 100, cases=amounts, hint="discount",
             py="return $price - $price * $percent / 100", js="return $price - $price * $percent / 100;", rs="$price - $price * $percent / 100.0"),
        Kind("percent_of", "part:num total:num", "num", ("returns what percentage `$part` is of `$total`, or 0 if `$total` is 0", "computes `$part` as a percentage of `$total`; if `$total` is 0 it returns 0"),
             ("returns what percentage a part is of a total, or 0 if the total is 0",), ref=lambda part, total: 0 if total == 0 else part / total * 100,
             cases=lambda rng, c: [(1, 4), (5, 0), (3, 2), (0, 7), (rng.randint(1, 9), 8)], hint="percentage",
             py="if $total == 0:\n    return 0\nreturn $part / $total * 100", js="if ($total === 0) {\n  return 0;\n}\nreturn $part / $total * 100;",
             rs="if $total == 0.0 {\n    return 0.0;\n}\n$part / $total * 100.0"),
        Kind("format_currency", "amount:num", "str", ("formats `$amount` as dollars with two decimals, like \"$1.50\"", "returns `$amount` as a string with a dollar sign and two decimals", "formats the number `$amount` as a currency string such as \"$1.50\""),
             ("formats a number as a currency string like \"$1.50\"", "formats a number as dollars with two decimals", "returns a dollar amount as a string with two decimals, for example \"$1.50\"", "formats a number as USD currency with two decimals", "formats a number as currency", "formats a number as US dollars", "takes a number and returns a string with a dollar sign and two decimal places", "formats an amount as a dollar string, e.g. \"$1.50\""),
             ref=lambda amount: f"${amount:.2f}", cases=lambda rng, c: [(1.5,), (0,), (12,), (1234.25,), (0.75,)], hint="format_currency",
             py='return f"${$amount:.2f}"', js='return "$" + $amount.toFixed(2);', rs='format!("${:.2}", $amount)'),
        Kind("format_unit", "amount:num", "str", ('formats `$amount` with two decimals followed by " $unit"', 'returns `$amount` with two decimals and the suffix " $unit"'),
             ('formats a number with two decimals followed by " $unit"',), ref=lambda amount, unit: f"{amount:.2f} {unit}", hint="format_amount",
             consts=lambda rng: {"unit": ("raw", rng.choice(["EUR", "USD", "GBP", "CHF", "kg", "km", "m", "cm", "kWh", "JPY", "l", "MB"]))},
             cases=lambda rng, c: [(1.5,), (0,), (12,), (1234.25,)],
             py='return f"{$amount:.2f} $unit"', js='return $amount.toFixed(2) + " $unit";', rs='format!("{:.2} $unit", $amount)'),
    ]


def _limits():
    ordered = lambda rng, c: [(5, 1, 10), (-3, 0, 4), (40, 2, 30), (7, 7, 9), (9, 7, 9)]
    return [
        Kind("clamp", "value:num low:num high:num", "num", ("limits `$value` to the range from `$low` to `$high`", "clamps `$value` between `$low` and `$high`", "returns `$value`, but never less than `$low` and never more than `$high`"),
             ("limits a number to a lower and an upper bound", "clamps a number between two bounds"), ref=lambda value, low, high: max(low, min(value, high)), cases=ordered, hint="clamp",
             py="return max($low, min($value, $high))", js="return Math.max($low, Math.min($value, $high));", rs="$value.max($low).min($high)"),
        Kind("between", "value:num low:num high:num", "bool", ("returns true if `$value` is between `$low` and `$high`, both included", "checks whether `$value` lies in the range from `$low` to `$high` inclusive"),
             ("checks whether a number lies between two bounds, both included",), ref=lambda value, low, high: low <= value <= high, cases=ordered, hint="is_between",
             py="return $low <= $value <= $high", js="return $low <= $value && $value <= $high;", rs="$low <= $value && $value <= $high"),
        Kind("strictly_between", "value:num low:num high:num", "bool", ("returns true if `$value` is greater than `$low` and less than `$high`", "checks whether `$value` lies strictly between `$low` and `$high`"),
             ("checks whether a number lies strictly between two bounds",), ref=lambda value, low, high: low < value < high, cases=ordered, hint="is_inside",
             py="return $low < $value < $high", js="return $low < $value && $value < $high;", rs="$low < $value && $value < $high"),
        Kind("larger", "a:num b:num", "num", ("returns the larger of `$a` and `$b`", "returns the maximum of `$a` and `$b`"), ("returns the larger of two numbers", "returns the maximum of two numbers"),
             ref=max, hint="larger", py="return max($a, $b)", js="return Math.max($a, $b);", rs="$a.max($b)"),
        Kind("smaller", "a:num b:num", "num", ("returns the smaller of `$a` and `$b`", "returns the minimum of `$a` and `$b`"), ("returns the smaller of two numbers", "returns the minimum of two numbers"),
             ref=min, hint="smaller", py="return min($a, $b)", js="return Math.min($a, $b);", rs="$a.min($b)"),
        Kind("distance", "a:num b:num", "num", ("returns the absolute difference of `$a` and `$b`", "returns the distance between the numbers `$a` and `$b`"), ("returns the absolute difference of two numbers",),
             ref=lambda a, b: abs(a - b), hint="distance", py="return abs($a - $b)", js="return Math.abs($a - $b);", rs="($a - $b).abs()"),
        Kind("absolute", "value:num", "num", ("returns the absolute value of `$value`",), ("returns the absolute value of a number",), ref=abs, hint="magnitude",
             py="return abs($value)", js="return Math.abs($value);", rs="$value.abs()", cases=lambda rng, c: [(-3,), (4,), (0,), (-0.5,)]),
        Kind("hypotenuse", "x:num y:num", "num", ("returns the distance of the point (`$x`, `$y`) from the origin", "returns the square root of `$x` squared plus `$y` squared"), ("returns the length of the hypotenuse for two legs",),
             ref=math.hypot, hint="hypotenuse", py="return ($x ** 2 + $y ** 2) ** 0.5", js="return Math.sqrt($x ** 2 + $y ** 2);", rs="($x * $x + $y * $y).sqrt()",
             cases=lambda rng, c: [(3, 4), (0, 5), (-6, 8), (1, 1)]),
        Kind("mean2", "a:num b:num", "num", ("returns the average of `$a` and `$b`", "returns the mean of the numbers `$a` and `$b`"), ("returns the average of two numbers",), ref=lambda a, b: (a + b) / 2, hint="average",
             py="return ($a + $b) / 2", js="return ($a + $b) / 2;", rs="($a + $b) / 2.0"),
        Kind("ratio", "a:num b:num", "num", ("divides `$a` by `$b`, or returns 0 if `$b` is 0", "returns `$a` divided by `$b`; if `$b` is 0 it returns 0"), ("divides two numbers, or returns 0 if the divisor is 0", "divides the first number by the second; when the second is 0 it returns 0"),
             ref=lambda a, b: 0 if b == 0 else a / b, cases=lambda rng, c: [(8, 2), (5, 0), (1, 4), (-9, 2)], hint="safe_divide",
             py="if $b == 0:\n    return 0\nreturn $a / $b", js="if ($b === 0) {\n  return 0;\n}\nreturn $a / $b;", rs="if $b == 0.0 {\n    return 0.0;\n}\n$a / $b"),
        Kind("rectangle", "width:num height:num", "num", ("returns the perimeter of a rectangle of `$width` by `$height`",), ("returns the perimeter of a rectangle",), ref=lambda width, height: 2 * (width + height), hint="perimeter",
             py="return 2 * ($width + $height)", js="return 2 * ($width + $height);", rs="2.0 * ($width + $height)"),
        Kind("to_fahrenheit", "celsius:num", "num", ("converts `$celsius` from degrees Celsius to Fahrenheit", "converts the Celsius temperature `$celsius` to Fahrenheit"), ("converts degrees Celsius to Fahrenheit", "converts a temperature from Celsius to Fahrenheit"),
             ref=lambda celsius: celsius * 9 / 5 + 32, hint="celsius_to_fahrenheit", py="return $celsius * 9 / 5 + 32", js="return $celsius * 9 / 5 + 32;", rs="$celsius * 9.0 / 5.0 + 32.0"),
        Kind("to_celsius", "fahrenheit:num", "num", ("converts `$fahrenheit` from degrees Fahrenheit to Celsius", "converts the Fahrenheit temperature `$fahrenheit` to Celsius"), ("converts degrees Fahrenheit to Celsius", "converts a temperature from Fahrenheit to Celsius"),
             ref=lambda fahrenheit: (fahrenheit - 32) * 5 / 9, hint="fahrenheit_to_celsius", py="return ($fahrenheit - 32) * 5 / 9", js="return ($fahrenheit - 32) * 5 / 9;", rs="($fahrenheit - 32.0) * 5.0 / 9.0"),
    ]


def _integers():
    small = lambda rng, c: [(0,), (1,), (5,), (7,), (10,)]
    signs = lambda rng, c: [(0,), (1,), (-4,), (7,), (12,), (-3,)]
    return [
        Kind("is_even", "n:int", "bool", ("returns true if the integer `$n` is even", "checks whether `$n` is even"), ("checks whether an integer is even", "returns true if a number is even"), ref=lambda n: n % 2 == 0, cases=signs, hint="is_even",
             py="return $n % 2 == 0", js="return $n % 2 === 0;", rs="$n % 2 == 0"),
        Kind("is_odd", "n:int", "bool", ("returns true if the integer `$n` is odd", "checks whether `$n` is odd"), ("checks whether an integer is odd", "returns true if a number is odd"), ref=lambda n: n % 2 != 0, cases=signs, hint="is_odd",
             py="return $n % 2 != 0", js="return $n % 2 !== 0;", rs="$n % 2 != 0"),
        Kind("is_positive", "value:num", "bool", ("returns true if `$value` is greater than zero", "checks whether `$value` is positive"), ("checks whether a number is positive",), ref=lambda value: value > 0, cases=signs, hint="is_positive",
             py="return $value > 0", js="return $value > 0;", rs="$value > 0.0"),
        Kind("sign", "n:int", "int", ("returns 1, 0 or -1 for a positive, zero or negative integer `$n`", "returns the sign of the integer `$n` as 1, 0 or -1"), ("returns the sign of an integer as 1, 0 or -1",), ref=lambda n: (n > 0) - (n < 0), cases=signs, hint="sign_of",
             py="if $n > 0:\n    return 1\nif $n < 0:\n    return -1\nreturn 0", js="if ($n > 0) {\n  return 1;\n}\nif ($n < 0) {\n  return -1;\n}\nreturn 0;", rs="if $n > 0 {\n    return 1;\n}\nif $n < 0 {\n    return -1;\n}\n0"),
        Kind("factorial", "n:int", "int", ("returns the factorial of `$n`", "computes the factorial of the integer `$n`"), ("returns the factorial of an integer", "computes a factorial"), ref=math.factorial, cases=small, hint="factorial",
             py="result = 1\nfor i in range(2, $n + 1):\n    result *= i\nreturn result", js="let result = 1;\nfor (let i = 2; i <= $n; i++) {\n  result *= i;\n}\nreturn result;", rs="(1..=$n).product()"),
        Kind("sum_to", "n:int", "int", ("returns the sum of the integers from 1 to `$n`", "adds all integers from 1 up to `$n`"), ("returns the sum of the integers from 1 to a limit",), ref=lambda n: n * (n + 1) // 2, cases=small, hint="sum_to",
             py="return sum(range(1, $n + 1))", js="let result = 0;\nfor (let i = 1; i <= $n; i++) {\n  result += i;\n}\nreturn result;", rs="(1..=$n).sum()"),
        Kind("fibonacci", "n:int", "int", ("returns the Fibonacci number at position `$n`, starting with 0 and 1", "computes the `$n`-th Fibonacci number, where the numbers start with 0 and 1"), ("returns the n-th Fibonacci number, starting with 0 and 1",), ref=lambda n: [0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55][n], cases=small, hint="fibonacci",
             py="i, j = 0, 1\nfor _ in range($n):\n    i, j = j, i + j\nreturn i", js="let i = 0;\nlet j = 1;\nfor (let k = 0; k < $n; k++) {\n  [i, j] = [j, i + j];\n}\nreturn i;", rs="let (mut i, mut j) = (0, 1);\nfor _ in 0..$n {\n    (i, j) = (j, i + j);\n}\ni"),
        Kind("gcd", "a:int b:int", "int", ("returns the greatest common divisor of `$a` and `$b`", "computes the gcd of the integers `$a` and `$b`"), ("returns the greatest common divisor of two integers",), ref=math.gcd, hint="gcd", cases=lambda rng, c: [(12, 18), (7, 5), (9, 0), (40, 16)],
             py="while $b:\n    $a, $b = $b, $a % $b\nreturn $a", js="while ($b !== 0) {\n  [$a, $b] = [$b, $a % $b];\n}\nreturn $a;", rs="let (mut i, mut j) = ($a, $b);\nwhile j != 0 {\n    (i, j) = (j, i % j);\n}\ni"),
        Kind("swap", "a:int b:int", "pair", ("returns the integers `$b` and `$a` as a pair, in this order", "swaps the integers `$a` and `$b` and returns them as a pair"), ("swaps two integers and returns them as a pair",), ref=lambda a, b: (b, a), hint="swap",
             py="return ($b, $a)", js="return [$b, $a];", rs="($b, $a)"),
        Kind("leap_year", "year:int", "bool", ("returns true if `$year` is a leap year", "checks whether `$year` is a leap year"), ("checks whether a year is a leap year",), ref=lambda year: year % 4 == 0 and year % 100 != 0 or year % 400 == 0, hint="is_leap_year", cases=lambda rng, c: [(2000,), (1900,), (2024,), (2023,)],
             py="return $year % 4 == 0 and ($year % 100 != 0 or $year % 400 == 0)", js="return $year % 4 === 0 && ($year % 100 !== 0 || $year % 400 === 0);", rs="$year % 4 == 0 && ($year % 100 != 0 || $year % 400 == 0)"),
    ]


KINDS = _arithmetic() + _with_constants() + _money() + _limits() + _integers()
