#!/usr/bin/env bash
# Schemathesis against `coder serve` and its own OpenAPI document: no answer is a 500, and what is answered fits the
# document. The table is tests/results/schemathesis.md.
#
#   tests/schemathesis.sh [SECONDS]     for so long, 300 by default; needs python3 and the package registry
set -uo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-300}
folder=$PWD/target/schemathesis
table=$PWD/tests/results/schemathesis.md
mkdir -p "$folder"
coder=${CODER:-}
if [ -z "$coder" ]; then
  cargo build || exit 1
  coder=$PWD/target/debug/coder
fi

[ -x "$folder/venv/bin/python" ] || python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet schemathesis==4.32.5 || exit 1

"$coder" serve --port 0 --max-tokens 16 --log json 2>"$folder/serve.log" &
server=$!
trap 'kill -TERM $server 2>/dev/null; wait $server' EXIT
for _ in $(seq 100); do
  url=$(sed -n 's/^listening on //p' "$folder/serve.log")
  [ -n "$url" ] && break
  sleep 0.1
done
[ -n "$url" ] || { cat "$folder/serve.log"; exit 1; }

# What the document cannot say is left out of the checks: a schema of a schema takes what no grammar can hold, and a
# field may be fine by its type and still not fit another one, which is a 400.
(cd "$folder" && venv/bin/st run "$url/openapi.json" --max-time "$seconds" --seed 7 --workers 2 --continue-on-failure \
  --request-timeout 60 --phases examples,coverage,fuzzing --no-color --report json,junit --report-dir report \
  --report-json-path report.json \
  --checks not_a_server_error,content_type_conformance,response_schema_conformance) | tee "$folder/out.txt"
result=${PIPESTATUS[0]}

kill -0 "$server" 2>/dev/null || { echo "the server has ended"; result=1; }
requests=$(curl -sS "$url/metrics" | sed -n 's/^coder_requests_total{.*} //p' | paste -sd+ | bc)
errors=$(curl -sS "$url/metrics" | grep -E '^coder_requests_total\{.*status="5' || true)
{
  echo "# Schemathesis"
  echo
  echo "By \`tests/schemathesis.sh $seconds\`, $(date -u +%F), with the bundled model."
  echo
  echo "| what | result |"
  echo "|---|---|"
  echo "| requests that the server counted | $requests |"
  echo "| answers with a status of 500 or more | ${errors:-none} |"
  echo "| answers that do not fit the document, by content type or schema | $([ "$result" = 0 ] && echo none || echo "**some**, see the output") |"
} >"$table"
cat "$table"
[ "$result" = 0 ] && [ -z "$errors" ]
