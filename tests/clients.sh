#!/usr/bin/env bash
# Real clients against `coder serve`, and a table of what they found in tests/results/clients.md.
#
#   tests/clients.sh              all of them; needs python3, node, git and curl, and the package registries for what is not in
#                                 target/clients yet (about 2 GB)
#
# Libraries and aider are answered by the bundled model. The coding agents need a long context: they are answered by a model of
# random weights, for which the data set must lie beside the checkout; without it their rows say so. A client that cannot be
# installed is a row that says so, and a failure. Each client has a home of its own under target/clients.
set -uo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/target/clients
table=$PWD/tests/results/clients.md
coder=$PWD/target/debug/coder
data=$(cd .. && pwd)/shared/data/qwen2.5
failed=0
server=
mkdir -p "$folder/home" "$(dirname "$table")"
cargo build || exit 1

trap '[ -z "$server" ] || { kill -TERM $server; wait $server; }' EXIT

{
  echo "# Real clients"
  echo
  echo "By \`tests/clients.sh\`, $(date -u +%F). Libraries and aider were answered by the bundled model, aider with a chat template that"
  echo "shows it what the user asked and nothing else of a prompt that it has no room for. Coding agents were answered by a model of"
  echo "random weights with Qwen2.5's vocabulary and chat template: its text is noise, but its calls of tools are held to what each"
  echo "agent declares, and every agent checks them against its own schemas."
  echo
  echo "| client | what | result |"
  echo "|---|---|---|"
} >"$table"

row() { echo "| $1 | $2 | $3 |" | tee -a "$table"; }
fail() { row "$1" "$2" "**failed**"; failed=1; }

# Installs Python packages into an environment of their own.
python() {
  local name=$1
  shift
  [ -x "$folder/$name/bin/python" ] || python3 -m venv "$folder/$name"
  "$folder/$name/bin/pip" install --quiet --disable-pip-version-check "$@" || { row "$*" install "**not installed**"; failed=1; return 1; }
}

# Starts a server with these options, and sets $url.
serve() {
  local log=$folder/$1.log
  shift
  "$coder" serve --port 0 --log json "$@" 2>"$log" &
  server=$!
  url=
  for _ in $(seq 300); do
    url=$(sed -n 's/^listening on //p' "$log")
    [ -n "$url" ] && return
    kill -0 $server 2>/dev/null || break
    sleep 0.1
  done
  cat "$log"
  exit 1
}

stop() {
  kill -TERM $server
  wait $server
  local code=$?
  server=
  if [ $code -eq 0 ]; then row server "$1: ends on SIGTERM with 0" passed; else fail server "$1: ends on SIGTERM ($code)"; fi
}

# Runs a program that prints rows, for so many seconds at most.
rows() {
  local log=$folder/$1.err limit=$2
  shift 2
  HOME=$folder/home timeout "$limit" "$@" 2>"$log" | grep --line-buffered '^|' | tee -a "$table"
  [ "${PIPESTATUS[0]}" -eq 0 ] || { failed=1; tail -40 "$log"; }
}

# Runs a command; its output must hold a word.
holds() {
  local client=$1 what=$2 word=$3
  shift 3
  local out
  if out=$("$@" 2>&1) && grep -q -- "$word" <<<"$out"; then
    row "$client" "$what" passed
  else
    fail "$client" "$what"
    echo "$out" | head -20
  fi
}

post() { curl -sS --fail-with-body "$url$1" -H 'Content-Type: application/json' -H 'Authorization: Bearer sk-litellm-changeme' -d "$2"; }

serve bundled --alias 'claude-*=coder-tiny' --alias 'gpt-*=coder-tiny' --alias qwen2.5-coder:32b=coder-tiny
holds curl "S0-16: a chat completion" '"choices"' post /v1/chat/completions \
  '{"model": "qwen2.5-coder:32b", "messages": [{"role": "user", "content": "Classify: crash"}]}'
holds curl "S2-16: model free, max_tokens 5" '"choices"' post /v1/chat/completions \
  '{"model": "free", "messages": [{"role": "user", "content": "Say OK"}], "max_tokens": 5}'
holds curl "S2-17: /v1/models contains free" '"free"' curl -sS --fail-with-body "$url/v1/models"
holds curl "S2-18: Add login button is FEAT" FEAT post /v1/chat/completions \
  '{"model": "free", "messages": [{"role": "user", "content": "Classify as BUG, FEAT or TASK: Add login button"}], "max_tokens": 10}'
holds curl "S2-13: /api/tags names the model" coder-tiny curl -sS --fail-with-body "$url/api/tags"
python venv openai==3.57.0 anthropic==2.14.0 gguf==0.19.0 &&
  rows python 600 "$folder/venv/bin/python" tests/clients/python.py "$url"
# It would fetch a table of prices, and ask for feedback.
export LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_TELEMETRY=False
python litellm litellm==1.110.2 &&
  rows litellm 600 "$folder/litellm/bin/python" tests/clients/litellm_library.py "$url"
stop bundled

serve request --chat-template tests/clients/request.jinja
python aider aider-chat==0.86.2 &&
  rows aider 600 "$folder/aider/bin/python" tests/clients/edit.py "$url" "$folder"
stop "with a chat template"

mkdir -p "$folder/npm"
agents="@anthropic-ai/claude-code@2.1.332 opencode-ai@1.18.33 @openai/codex@0.171.0"
if [ ! -f "$data/tokenizer.json" ]; then
  for agent in $agents; do row "$agent" "a turn, and calls of its tools" "not run: data set absent"; done
  exit $failed
fi
# The scripts put each program where its name is looked for.
if (cd "$folder/npm" && { [ -f package.json ] || npm init -y >/dev/null; } &&
  npm install --silent --no-audit --no-fund --ignore-scripts $agents &&
  node node_modules/@anthropic-ai/claude-code/install.cjs && node node_modules/opencode-ai/postinstall.mjs); then
  "$folder/venv/bin/python" tests/clients/noise.py "$data" "$folder/noise.gguf" || exit 1
  serve noise --model "$folder/noise.gguf" --context 65536 --cache 262144 --alias 'claude-*=noise'
  rows agents 3000 "$folder/venv/bin/python" tests/clients/agents.py "$url" "$folder"
  stop "random weights"
else
  row "$agents" install "**not installed**"
  failed=1
fi
exit $failed
