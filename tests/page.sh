#!/usr/bin/env bash
# The page of `coder serve` in headless Chromium, with the bundled model, and a table of what was seen in tests/results/page.md.
#
#   tests/page.sh              needs node, and the package registry for what is not in target/page yet
#
# Screenshots are in target/page/shots; look at them.
set -uo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/page
mkdir -p "$folder/tmp" "$folder/shots"
cargo build || exit 1
[ -f "$folder/package.json" ] || echo '{"private": true}' >"$folder/package.json"
(cd "$folder" && npm install --silent --no-audit --no-fund \
  @sparticuz/chromium@153.0.0 puppeteer-core@25.16.0 axe-core@4.14.1) || exit 1
TMPDIR=$folder/tmp exec node tests/page/run.mjs "$PWD" "$folder"
