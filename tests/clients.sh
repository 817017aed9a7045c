#!/usr/bin/env bash
# Real clients against `coder serve` with the bundled model, and a table of what they found in tests/results/clients.md.
#
#   tests/clients.sh              all of them; needs python3, and the package registry for what is not in target/clients yet
#
# A client that cannot be installed is a row that says so, and a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/clients
table=$PWD/tests/results/clients.md
coder=$PWD/target/debug/coder
mkdir -p "$folder" "$(dirname "$table")"
cargo build || exit 1

[ -x "$folder/venv/bin/python" ] || python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openai==3.57.0 anthropic==2.14.0 || exit 1

"$coder" serve --port 0 --alias 'claude-*=coder-tiny' --alias 'gpt-*=coder-tiny' --alias qwen2.5-coder:32b=coder-tiny --log json 2>"$folder/serve.log" &
server=$!
trap 'kill -TERM $server 2>/dev/null; wait $server' EXIT
for _ in $(seq 100); do
  url=$(sed -n 's/^listening on //p' "$folder/serve.log")
  [ -n "$url" ] && break
  sleep 0.1
done
[ -n "$url" ] || { cat "$folder/serve.log"; exit 1; }

failed=0
{
  echo "# Real clients"
  echo
  echo "By \`tests/clients.sh\`, $(date -u +%F), with the bundled model."
  echo
  echo "| client | what | result |"
  echo "|---|---|---|"
} >"$table"

row() { echo "| $1 | $2 | $3 |" | tee -a "$table"; }

# Runs a command; its output must hold a word.
holds() {
  local client=$1 what=$2 word=$3
  shift 3
  local out
  if out=$("$@" 2>&1) && grep -q -- "$word" <<<"$out"; then
    row "$client" "$what" passed
  else
    row "$client" "$what" "**failed**"
    echo "$out" | head -20
    failed=1
  fi
}

post() { curl -sS --fail-with-body "$url$1" -H 'Content-Type: application/json' -H 'Authorization: Bearer sk-litellm-changeme' -d "$2"; }

holds curl "S0-16: a chat completion" '"choices"' post /v1/chat/completions \
  '{"model": "qwen2.5-coder:32b", "messages": [{"role": "user", "content": "Classify: crash"}]}'
holds curl "S2-16: model free, max_tokens 5" '"choices"' post /v1/chat/completions \
  '{"model": "free", "messages": [{"role": "user", "content": "Say OK"}], "max_tokens": 5}'
holds curl "S2-17: /v1/models contains free" '"free"' curl -sS --fail-with-body "$url/v1/models"
holds curl "S2-18: Add login button is FEAT" FEAT post /v1/chat/completions \
  '{"model": "free", "messages": [{"role": "user", "content": "Classify as BUG, FEAT or TASK: Add login button"}], "max_tokens": 10}'
holds curl "S2-13: /api/tags names the model" coder-tiny curl -sS --fail-with-body "$url/api/tags"
"$folder/venv/bin/python" tests/clients/python.py "$url" 2>"$folder/python.log" | tee -a "$table"
[ "${PIPESTATUS[0]}" -eq 0 ] || { failed=1; cat "$folder/python.log"; }

kill -TERM $server
wait $server
code=$?
trap - EXIT
if [ $code -eq 0 ]; then row server "ends on SIGTERM with 0" passed; else row server "ends on SIGTERM" "**failed** ($code)"; failed=1; fi
exit $failed
