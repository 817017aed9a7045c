"""What a hook that subscribes must have, as far as reading it tells."""

import pathlib
import re
import sys

text = pathlib.Path(sys.argv[1]).read_text()
wanted = {
    "an export of `useLiveHands`": r"export (default )?function useLiveHands|export const useLiveHands",
    "`useReducer`": r"useReducer\(",
    "`useEffect`": r"useEffect\(",
    "a cleanup that is returned from the effect": r"return \(\) =>",
    "another try after a delay": r"setTimeout\(",
}
missing = [name for name, pattern in wanted.items() if not re.search(pattern, text)]
if missing:
    sys.exit("the hook lacks " + ", ".join(missing))
