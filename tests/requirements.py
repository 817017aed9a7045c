#!/usr/bin/env python3
"""Which test covers which line of the requirements.

    python3 tests/requirements.py [REQUIREMENTS.md] [--all]

Reads the lines of class F (a function to build and test) of the sections S0, S1 and S2, and the tests' own words: a doc
comment `Covers S1-14, S1-20.` above a test function. Prints each line's tests with --all, and what no test names; ends
with 1 if there is any that is not listed below, with the reason why it has none.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECTIONS = ("S0", "S1", "S2")

# Lines that no test names, and why.
UNTESTED = {
    "S2-01": "the sum of S2-02 to S2-07 and S2-38, which tests name",
    "S2-34": "edits are replies here, and need no tools of a client; clients with tools are in tests/clients.sh",
    "S2-37": "commits have messages made by rule (S2-42), so no model is asked",
    "S2-41": "the whole suite",
}


def expand(text):
    """Ids of a list such as `S1-36…40, S2-27`: a bare number continues the section, `…` or `..` a range."""
    ids, section, last = [], None, None
    for section_now, number, through in re.findall(r"(?:(S\d)-)?(\d\d)(?:\s*(?:…|\.\.+|-)\s*(?:S\d-)?(\d\d))?", text):
        section = section_now or section
        if section is None:
            continue
        last = int(through or number)
        ids += [f"{section}-{n:02}" for n in range(int(number), last + 1)]
    return ids


def required(path):
    """Id and words of every line of class F."""
    lines = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"(S\d)-(\d\d) F\s+(.*)", line)
        if found and found[1] in SECTIONS:
            lines[f"{found[1]}-{found[2]}"] = found[3]
    return lines


def covered():
    """For each id the tests that name it, as `file: function`."""
    tests = {}
    for path in sorted(ROOT.rglob("*.rs")):
        if "target" in path.relative_to(ROOT).parts:
            continue
        ids, is_test = [], False
        for line in path.read_text(encoding="utf-8").splitlines():
            text = line.strip()
            if text.startswith("//") and "Covers " in text:
                ids += expand(text.split("Covers ", 1)[1])
            elif text.startswith("//") and ids and not is_test:
                ids += expand(text) if re.match(r"//[/!]?\s*S\d-\d\d", text) else []
            elif text.startswith("#["):
                is_test = is_test or "test" in text
            elif function := re.match(r"(?:pub(?:\(\w+\))? )?fn (\w+)", text):
                if is_test:
                    for one in ids:
                        tests.setdefault(one, []).append(f"{path.relative_to(ROOT)}: {function[1]}")
                ids, is_test = [], False
    return tests


def main():
    args = [arg for arg in sys.argv[1:] if arg != "--all"]
    path = pathlib.Path(args[0]) if args else ROOT.parent / "shared" / "requirements.md"
    if not path.exists():
        sys.exit(f"no requirements at `{path}`; name the file")
    lines, tests = required(path), covered()
    missing = [one for one in lines if one not in tests and one not in UNTESTED]
    if "--all" in sys.argv:
        for one, words in lines.items():
            print(f"{one}  {words}")
            for test in tests.get(one, []):
                print(f"        {test}")
            if one in UNTESTED and one not in tests:
                print(f"        ({UNTESTED[one]})")
    for one in missing:
        print(f"no test: {one}  {lines[one]}")
    for one in UNTESTED.keys() & tests.keys():
        print(f"listed as untested, and has a test: {one}")
    there = sum(one in tests for one in lines)
    reasons = len(lines) - there - len(missing)
    print(f"{len(lines)} lines of class F: {there} with tests, {len(missing)} without, {reasons} with a reason for that")
    sys.exit(1 if missing or UNTESTED.keys() & tests.keys() else 0)


if __name__ == "__main__":
    main()
