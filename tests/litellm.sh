#!/usr/bin/env bash
# Asks LiteLLM's proxy (github.com/BerriAI/litellm, from PyPI) over TLS, in both dialects, streamed and whole, and writes
# what came back to tests/results/litellm.md. Its models are mocks: nothing leaves this machine but the download.
#
#   tests/litellm.sh                       installs it into a temporary folder (about 800 MB), which is removed at the end
#   LITELLM=DIR/bin/litellm tests/litellm.sh    uses one that is there
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
proxy=
finish() {
  [ -n "$proxy" ] && kill "$proxy" 2>/dev/null
  rm -rf "$work"
}
trap finish EXIT

if [ -z "${LITELLM:-}" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet 'litellm[proxy]'
  LITELLM=$work/venv/bin/litellm
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export LITELLM_URL=https://localhost:$port LITELLM_KEY=sk-only-for-this-test
# Neither its price table nor its statistics are fetched or sent.
export LITELLM_LOCAL_MODEL_COST_MAP=True LITELLM_TELEMETRY=False

# An authority that exists for this run, and its certificate for localhost.
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=only for this test" \
  -keyout "$work/ca.key" -out "$work/ca.pem" 2>"$work/openssl.log"
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout "$work/key.pem" -out "$work/csr.pem" 2>>"$work/openssl.log"
printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' >"$work/extensions"
openssl x509 -req -in "$work/csr.pem" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
  -extfile "$work/extensions" -out "$work/cert.pem" 2>>"$work/openssl.log"
trust=$work/ca.pem

cat >"$work/config.yaml" <<YAML
model_list:
  - model_name: mock
    litellm_params: {model: openai/gpt-4o-mini, api_key: none, mock_response: "Hello from the proxy, Wörld"}
  - model_name: translated
    litellm_params: {model: hosted_vllm/mock, api_base: "$LITELLM_URL/v1", api_key: $LITELLM_KEY}
  - model_name: draft
    litellm_params: {model: openai/gpt-4o-mini, api_key: none, mock_response: "\`\`\`text\\na quokka\\n\`\`\`"}
  - model_name: draft-translated
    litellm_params: {model: hosted_vllm/draft, api_base: "$LITELLM_URL/v1", api_key: $LITELLM_KEY}
  - model_name: limited
    litellm_params: {model: openai/gpt-4o-mini, api_key: none, mock_response: litellm.RateLimitError}
  - model_name: broken
    litellm_params: {model: openai/gpt-4o-mini, api_key: none, mock_response: litellm.InternalServerError}
  - model_name: too-long
    litellm_params: {model: openai/gpt-4o-mini, api_key: none, mock_response: litellm.ContextWindowExceededError}
router_settings: {num_retries: 0, disable_cooldowns: true}
general_settings: {master_key: $LITELLM_KEY}
YAML
SSL_CERT_FILE=$trust "$LITELLM" --config "$work/config.yaml" --host 127.0.0.1 --port "$port" \
  --ssl_certfile_path "$work/cert.pem" --ssl_keyfile_path "$work/key.pem" >"$work/proxy.log" 2>&1 &
proxy=$!

# It needs up to two minutes to start on a slow machine.
alive() {
  SSL_CERT_FILE=$trust python3 -c "import urllib.request as r; r.urlopen('$LITELLM_URL/health/liveliness', timeout=5)" 2>/dev/null
}
for _ in $(seq 60); do
  alive && break
  kill -0 "$proxy" 2>/dev/null || { cat "$work/proxy.log" >&2; exit 1; }
  sleep 2
done
alive || { echo "the proxy did not start in time" >&2; tail -20 "$work/proxy.log" >&2; exit 1; }

# Once trusting the authority, once not.
status=0
ask="cargo test --package coder-escalate --features network --test litellm -- --ignored --nocapture"
SSL_CERT_FILE=$trust $ask --skip untrusted >"$work/out.txt" || status=$?
$ask untrusted_litellm >>"$work/out.txt" || status=$?

# The same through `coder run`: four rungs, and what the ledger has of them.
mkdir -p "$work/config/coder" "$work/tasks" "$work/tree"
rung() { # name, dialect, address, whether it streams, model
  printf '[endpoints.%s]\ndialect = "%s"\nurl = "%s"\nkey_env = "LITELLM_KEY"\nstream = %s\n' "$1" "$2" "$3" "$4"
  printf '[rungs.%s]\nendpoint = "%s"\nmodel = "%s"\nprice = { input_usd = 2, output_usd = 10 }\n' "$1" "$1" "$5"
}
{
  echo 'review.when = "never"'
  rung chat openai "$LITELLM_URL/v1" true draft
  rung chat-whole openai "$LITELLM_URL/v1" false draft
  rung messages anthropic "$LITELLM_URL" true draft-translated
  rung messages-whole anthropic "$LITELLM_URL" false draft-translated
} >"$work/config/coder/coder.toml"
for name in chat chat-whole messages messages-whole; do
  printf '{"task_id": "%s", "model": "%s", "description": "Write a text about the sea", "output_file": "%s.txt",
    "test_command": ["grep", "-q", "quokka", "%s.txt"]}' "$name" "$name" "$name" "$name" >"$work/tasks/$name.json"
done
coder() { XDG_CONFIG_HOME=$work/config XDG_STATE_HOME=$work/state SSL_CERT_FILE=$trust cargo run --quiet -- "$@"; }
coder run "$work/tasks" --working-dir "$work/tree" --no-sandbox >"$work/run.txt" || status=$?
coder stats --log --json >"$work/ledger.json"

mkdir -p tests/results
{
  echo "# LiteLLM's proxy over TLS, in both dialects, streamed and whole"
  echo
  echo "Written by \`tests/litellm.sh\` on $(date -u +%F) with LiteLLM $("$LITELLM" --version | grep -o '[0-9][0-9.]*' | head -1)."
  echo "Prompt and answer are tokens as the proxy counted them; where it answers a mock of its own in Anthropic's"
  echo "dialect, it always says 2095 and 503, and sends one document even if a stream was asked for."
  echo
  grep '^|' "$work/out.txt"
  echo
  grep '^Untrusted' "$work/out.txt"
  echo
  echo "The same through \`coder run\`, as the ledger has it, at prices of \$2 and \$10 for a million tokens:"
  echo
  python3 - "$work/ledger.json" <<'PYTHON'
import json, sys
print("| rung | outcome | prompt | answer | bytes sent | cost |\n|---|---|---|---|---|---|")
for task in json.load(open(sys.argv[1]))["tasks"]:
    for sent in task["requests"]:
        usage = sent["usage"]
        tokens = usage["prompt_tokens"], usage["completion_tokens"]
        assert abs(sent["cost_usd"] - (tokens[0] * 2 + tokens[1] * 10) / 1e6) < 1e-12, sent
        print(f"| {sent['rung']} | {task['end']['outcome']} | {tokens[0]} | {tokens[1]} | {sent['bytes']} | ${sent['cost_usd']:.6f} |")
PYTHON
} >tests/results/litellm.md
cat tests/results/litellm.md
[ "$status" -eq 0 ] || { cat "$work/out.txt" >&2; exit "$status"; }
